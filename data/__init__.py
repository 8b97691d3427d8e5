"""The embedded corpus: a small world that tells stories and knows what each one is worth."""
