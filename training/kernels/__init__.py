"""Kernels: faster forms of the textbook's modules, attached to a finished model from outside.

Each is a subclass of the module that it stands for, with the same weights, names and values, to
rounding. Attaching changes the class of a module, so it comes before compiling and sharding,
which change it too. loss.py's counterpart, cross_entropy.py, is a function and comes in through
Trainer(loss_fn=...).
Previous: ../flops.py.  Next: gelu.py.
"""

from collections.abc import Mapping

import torch
from torch import nn

from gelu import GELU
from layer_norm import LayerNorm
from multiheadattention import MultiHeadAttention
from training.kernels.attention import ShortAttention, TiledAttention
from training.kernels.gelu import GELUKernel
from training.kernels.layer_norm import LayerNormKernel
from training.kernels.linear import ChunkedLinear

ModuleClass = type[nn.Module]

# Every kernel there is, by the exact type that it replaces.
KERNELS: Mapping[ModuleClass, tuple[ModuleClass, ...]] = {
    GELU: (GELUKernel,),
    LayerNorm: (LayerNormKernel,),
    nn.Linear: (ChunkedLinear,),
    MultiHeadAttention: (ShortAttention, TiledAttention),
}


def choose_kernels(
    device: torch.device,
    precision: torch.dtype,
    *,
    has_tiles: bool = False,
    compiled: bool = False,
) -> dict[ModuleClass, ModuleClass]:
    """Returns the faster type for each exact type, where there is one.

    precision is the dtype of matmuls. has_tiles: whether the processor multiplies bf16 by tiles
    (AMX) and the model is large enough to gain. compiled: whether the blocks are to be compiled.
    """
    kernels: dict[ModuleClass, ModuleClass] = {GELU: GELUKernel, LayerNorm: LayerNormKernel}
    if device.type == "cpu" and precision == torch.bfloat16:
        kernels[MultiHeadAttention] = TiledAttention if has_tiles and compiled else ShortAttention
        if has_tiles:
            kernels[nn.Linear] = ChunkedLinear
    return kernels


def use_kernels(model: nn.Module, kernels: Mapping[ModuleClass, ModuleClass]) -> None:
    """Gives each module of exactly a type in kernels the faster type, in place.

    The output layer stays as it is: cross_entropy.py computes it together with the loss.
    """
    for name, module in model.named_modules():
        kernel = kernels.get(type(module))
        if kernel is not None and name != "lm_head":
            module.__class__ = kernel
