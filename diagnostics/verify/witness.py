"""Witness: sees which way the attention went and how much was read.

A check that compared a path with itself would pass. So each says what must have run, and how
often: the fused kernel or the formula once for every layer, a cached text once for every token.
Previous: check.py.  Next: gradients.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from diagnostics.verify.check import NotTaken
from gpt2 import GPT2Model
from multiheadattention import CausalSoftmax

INT8_KERNEL = torch._weight_int8pack_mm


class Witness(TorchFunctionMode):
    """Counts, from outside the model."""

    def __init__(self) -> None:
        super().__init__()
        self.n_fused = 0  # calls of torch's kernel
        self.n_formula = 0  # calls of the softmax that is written out
        self.n_int8 = 0  # calls of the kernel for few rows of int8 weights
        self.n_positions = 0  # tokens that were embedded, padding included

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        self.n_fused += func is F.scaled_dot_product_attention
        self.n_int8 += func == INT8_KERNEL
        return func(*args, **(kwargs or {}))

    def require_formula_only(self, n_calls: int) -> None:
        """Raises NotTaken unless the attention was written out every time."""
        seen = f"{self.n_formula} of {n_calls} calls; the fused kernel: {self.n_fused}"
        if (self.n_formula, self.n_fused) != (n_calls, 0):
            raise NotTaken(f"the formula ran in {seen}")

    def require_fused_only(self, n_calls: int) -> None:
        """Raises NotTaken unless the fused kernel ran every time."""
        seen = f"{self.n_fused} of {n_calls} calls; the formula: {self.n_formula}"
        if (self.n_fused, self.n_formula) != (n_calls, 0):
            raise NotTaken(f"the fused kernel ran in {seen}")

    def require_int8_kernel(self, n_calls: int) -> None:
        """Raises NotTaken unless the kernel ran every time."""
        if self.n_int8 != n_calls:
            raise NotTaken(f"the int8 kernel ran in {self.n_int8} of {n_calls} calls")

    def require_positions(self, n_positions: int) -> None:
        """Raises NotTaken unless so many tokens were read."""
        if self.n_positions != n_positions:
            raise NotTaken(f"{self.n_positions} tokens were read where {n_positions} suffice")


@contextmanager
def watch(model: GPT2Model) -> Iterator[Witness]:
    """Inside this context the witness counts what `model` does."""
    witness = Witness()

    def formula(*seen: object) -> None:
        witness.n_formula += 1

    def read(layer: object, given: tuple, x: object) -> None:
        witness.n_positions += given[0].numel()

    softmaxes = [layer for layer in model.modules() if isinstance(layer, CausalSoftmax)]
    hooks = [softmax.register_forward_hook(formula) for softmax in softmaxes]
    hooks.append(model.token_embedding.register_forward_hook(read))
    try:
        with witness:
            yield witness
    finally:
        for hook in hooks:
            hook.remove()
