"""The assistant: a trained model learns to answer, from labelled data."""
