"""How many windows fit into memory at a time.

    kept      = what autograd keeps of one window until its gradient is known, counted
    micro     = SHARE (free - gradients - optimizer) / kept

The same batch is then cut into as few portions as that allows. Only a GPU says that its memory is
short, and then halving helps as well; a CPU's machine begins to swap or ends the process.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.machine import free_memory
from training.random_state import random_states, set_random_states

SHARE = 0.7  # of what is free: peaks were up to 1.3 times the sum, by what lives shortly
OPTIMIZER_TENSORS = 2  # of a parameter's size: AdamW's two means


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes, for a training step."""

    per_window: int  # kept by autograd from the forward to the backward pass
    fixed: int  # gradients, what the optimizer is still going to allocate, and kept once a pass
    free: int  # before the step

    def most_windows(self) -> int:
        """What fits at a time; 0: not even one."""
        return max(0, int(SHARE * (self.free - self.fixed) / self.per_window))

    def micro_batch(self, batch_size: int) -> int:
        """As few portions of a batch as fit, all about equal; at least one window each."""
        n_portions = -(-batch_size // max(1, self.most_windows()))
        return -(-batch_size // n_portions)

    def describe(self, n_windows: int) -> str:
        """What a step takes with so many windows at a time."""
        step = self.fixed + n_windows * self.per_window
        return (
            f"{n_windows} windows at a time take about {step / 1e9:.2g} GB "
            f"({self.per_window / 1e6:.2g} MB a window), {self.free / 1e9:.2g} GB are free"
        )


def measure_need(
    model: nn.Module, loss: Callable[[int], Tensor], *, has_stepped: bool
) -> MemoryNeed | None:
    """Runs loss(n windows) forward for one window and for two; None: a GPU has no room for two.

    Blocks that are compiled run as written here, which keeps somewhat more than they do.
    """
    before = random_states()
    try:
        with torch.compiler.set_stance("force_eager"):
            one, two = (kept_bytes(model, lambda n=n: loss(n)) for n in (1, 2))
    except torch.OutOfMemoryError:
        return None
    finally:
        set_random_states(before)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    to_come = 1 if has_stepped else 1 + OPTIMIZER_TENSORS
    per_window, free = max(1, two - one), free_memory(next(model.parameters()).device)
    if free is None:
        raise ValueError(
            "--train.micro-batch auto: this system does not say how much memory is free; "
            "give a number"
        )
    return MemoryNeed(per_window, weights * to_come + one - per_window, free)


def kept_bytes(model: nn.Module, forward: Callable[[], Tensor]) -> int:
    """What autograd keeps of a forward pass, each piece of memory once, without the weights."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()  # held until the sum is made: an address is one piece of memory
    total = sum(kept.values())
    del result
    return total
