"""Where the run computes and in which precision: chosen here, said in one line.

bf16 keeps 8 bits of each number in a matrix product and all 32 bits of the weights. Processors
with bf16 instructions multiply two to four times faster that way.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from shutil import which

import torch
from torch import Tensor

from cfg_gpt2 import GPT2Config, TrainConfig
from gpt2 import GPT2Model

LARGE = 10_000_000  # weights in the blocks; smaller models gain less than compiling costs


@dataclass(frozen=True)
class Runtime:
    """One process on one device."""

    device: torch.device
    precision: torch.dtype
    compiled: bool = False
    missing: str | None = None  # what keeps the blocks from being compiled

    def autocast(self) -> AbstractContextManager[object]:
        """Inside this context matrix products run in the chosen precision."""
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)

    def prepare(self, model: GPT2Model) -> GPT2Model:
        """The model on the device, its blocks compiled in place where that was chosen."""
        model.to(self.device)
        if self.compiled:
            for block in model.blocks:  # equal, so that one compilation serves them all
                block.compile()
        return model

    def to_device(self, tensor: Tensor) -> Tensor:
        """A copy that a GPU need not be waited for."""
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def describe(self) -> str:
        """One line for the user."""
        names = {"cpu": f"cpu with {torch.get_num_threads()} threads", "mps": "Apple GPU (mps)"}
        if self.device.type == "cuda":
            names["cuda"] = torch.cuda.get_device_name(self.device)
        products = "bf16 products, fp32 weights" if self.precision == torch.bfloat16 else "fp32"
        blocks = "blocks compiled" if self.compiled else "blocks as written"
        if self.missing:
            blocks += f", for want of {self.missing} to compile them"
        return f"{names[self.device.type]}, {products}, {blocks}"


def choose_runtime(config: TrainConfig, sizes: GPT2Config | None = None) -> Runtime:
    """The device, precision and compilation that were asked for, or the best that is here.

    Raises ValueError where what was asked for is not here.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    name = config.device
    if name == "auto":
        name = next(device for device, here in present.items() if here)
    if not present[name]:
        here = ", ".join(device for device, found in present.items() if found)
        raise ValueError(f"--train.device {name} is not present here; present: {here}")
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if is_faster_in_bf16(name) else "fp32"
    missing = missing_compiler(name)
    if config.compile == "on" and missing:
        raise ValueError(f"--train.compile on needs {missing}, which is not here; leave it out")
    compiled = config.compile == "on"
    if config.compile == "auto" and sizes:
        compiled = 12 * sizes.n_layer * sizes.n_embd**2 >= LARGE
    return Runtime(
        torch.device(name),
        torch.bfloat16 if precision == "bf16" else torch.float32,
        compiled and not missing,
        missing if compiled else None,
    )


def missing_compiler(device: str) -> str | None:
    """What compiling for the device lacks; None: nothing."""
    if device == "cuda":
        return None if find_spec("triton") else "the package triton"
    if device == "mps" or any(map(which, ("c++", "g++", "clang++", "cl"))):
        return None
    return "a C++ compiler"


def is_faster_in_bf16(device: str) -> bool:
    """Whether the device has instructions for bf16 products."""
    if device == "cuda":
        return torch.cuda.get_device_capability()[0] >= 8
    if device == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False
