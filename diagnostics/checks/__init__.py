"""The checks of `verify`, by what they look at; verify.py lists them in order."""
