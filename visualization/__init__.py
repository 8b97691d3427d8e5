"""The X-ray: what happens inside a model that one has trained."""
