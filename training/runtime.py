"""Where the run computes and in which precision: chosen here, said in one line.

bf16 keeps 8 bits of each number in a matrix product and all 32 bits of the weights. Processors
with bf16 instructions multiply two to four times faster that way.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from cfg_gpt2 import TrainConfig
from gpt2 import GPT2Model


@dataclass(frozen=True)
class Runtime:
    """One process on one device."""

    device: torch.device
    precision: torch.dtype
    compiled: bool = False

    def autocast(self) -> AbstractContextManager[object]:
        """Inside this context matrix products run in the chosen precision."""
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)

    def prepare(self, model: GPT2Model) -> GPT2Model:
        """The model on the device, its blocks compiled in place where that was chosen."""
        model.to(self.device)
        if self.compiled:
            for block in model.blocks:
                block.compile(dynamic=True)  # windows of any length without compiling again
        return model

    def to_device(self, tensor: Tensor) -> Tensor:
        """A copy that a GPU need not be waited for."""
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def describe(self) -> str:
        """One line for the user."""
        products = "bf16 products, fp32 weights" if self.precision == torch.bfloat16 else "fp32"
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {products}"
        if self.device.type == "mps":
            return f"Apple GPU (mps), {products}"
        return f"cpu with {torch.get_num_threads()} threads, {products}"


def choose_runtime(config: TrainConfig) -> Runtime:
    """The device and precision that were asked for, or the best that is here.

    Raises ValueError where the asked-for device is not here.
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
    return Runtime(torch.device(name), torch.bfloat16 if precision == "bf16" else torch.float32)


def is_faster_in_bf16(device: str) -> bool:
    """Whether the device has instructions for bf16 products."""
    if device == "cuda":
        return torch.cuda.get_device_capability()[0] >= 8
    if device == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False
