"""`python main.py doctor`: this machine, and the curve of a run, looked at for common faults."""
