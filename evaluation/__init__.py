"""Figures that compare: `python main.py evaluate`. README.md has the definitions."""
