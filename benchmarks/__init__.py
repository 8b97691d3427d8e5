"""How fast, against whom, on what machine: `python main.py benchmark`."""
