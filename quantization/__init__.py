"""Int8 weights, put into a finished model from outside."""
