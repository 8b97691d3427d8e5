"""What a user asks before, during and after a run: `python main.py verify`."""
