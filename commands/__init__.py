"""The commands `train` and `generate`, and how flags become settings."""
