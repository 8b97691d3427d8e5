"""The tiny world: an embedded corpus of generated stories, whose entropy is known exactly."""
