"""Text, token files, shards and windows: what load_data.py is built on."""

SPLITS: tuple[str, ...] = ("train", "validation")  # the two parts of every corpus
