"""What generation stands on; generation.py is the way from prompts to texts."""
