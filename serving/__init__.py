"""Serving: a run behind an API that real clients use, and a page to play with it."""
