"""Text, token files and windows: what load_data.py stands on."""
