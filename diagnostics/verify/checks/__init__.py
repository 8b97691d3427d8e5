"""The checks of `verify`, by what they look at; command.py lists them in order."""
