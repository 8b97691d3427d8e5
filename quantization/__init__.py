"""Int8 weights: a quarter of the bytes, put into a finished model from outside."""
