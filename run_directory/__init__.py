"""The run directory, the only thing that commands hand to each other: who writes and reads it."""
