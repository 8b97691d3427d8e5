"""Perplexity, bits per byte and task scores of models; README.md has the definitions."""
