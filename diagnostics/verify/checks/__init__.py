"""The checks of `verify`, grouped by the part of the program they test; command.py lists them."""
