"""Questions about stories of the small world, each with one right answer."""
