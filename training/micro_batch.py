"""How many windows fit into memory at a time.

    kept      = what autograd keeps of one window until its gradient is known, counted
    micro     = SHARE (free - gradients - optimizer) / kept

The same batch is then cut into as few portions as that allows. Only a GPU says that its memory is
short, and then halving helps as well; a CPU's machine begins to swap or ends the process.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training.checkpoint import random_states, set_random_states

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
    per_window, device = max(1, two - one), next(model.parameters()).device
    return MemoryNeed(per_window, weights * to_come + one - per_window, free_bytes(device))


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


def free_bytes(device: torch.device) -> int:
    """Memory that a run may still take. Raises ValueError where the system does not say."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    found = [size for size in (machine_free(), container_free()) if size is not None]
    if not found:
        raise ValueError("--train.micro-batch auto: this system does not say how much memory is "
                         "free; give a number")  # fmt: skip
    return min(found)


def machine_free() -> int | None:
    """Linux: what could be had without swapping. Elsewhere half of the machine's memory."""
    if Path("/proc/meminfo").exists():
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return None


def container_free() -> int | None:
    """What a container's or a job's limit (Linux, cgroup 2) leaves."""
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if not (limit.exists() and used.exists()) or limit.read_text().strip() == "max":
        return None
    return int(limit.read_text()) - int(used.read_text())
