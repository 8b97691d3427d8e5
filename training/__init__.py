"""What the training loop stands on; trainer.py is the loop itself."""
