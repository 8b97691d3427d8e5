"""The parts of the training loop; trainer.py is the loop itself.

Previous: ../generation.py.  Next: schedule.py.
"""
