"""`python main.py verify`: every fast path compared with the formula it stands for."""
