"""Second opinions: what the tests compare the project with, written without looking at it."""
