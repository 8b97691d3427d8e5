"""`python main.py plan`: memory, time and operations of a training run, before it starts."""
