"""Exercises: the learner writes the parts of GPT-2, and each is checked against a right one."""
