"""The embedded corpus: a small world that tells its own stories and knows how surprising each one is."""
