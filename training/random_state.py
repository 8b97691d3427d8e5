"""The states of torch's random generators, from which dropout is drawn.

A resumed run puts them back, and so does whoever computes something beside the training.
Previous: guard.py.  Next: checkpoint.py.
"""

import torch
from torch import Tensor


def random_states() -> dict[str, Tensor]:
    """Returns the state of each default generator that this machine has, by device type."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(states: dict[str, Tensor]) -> None:
    """Sets the generators to states that `random_states` returned.

    States of devices that this machine does not have are left out.
    """
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"])
