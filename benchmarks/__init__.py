"""Speed, compared with other implementations on one machine: `python main.py benchmark`."""
