"""CallCounter: counts the attention kernels that ran and the tokens that were computed.

A check that compared a path with itself would always pass. So each check states which kernel must
have run, and how often: the fused kernel or the formula once per layer, the embedding once per
token of a text that a cache holds.
Previous: check.py.  Next: checks/attention.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from diagnostics.verify.check import NotExercised
from gpt2 import GPT2Model
from multiheadattention import CausalSoftmax

INT8_KERNEL = torch._weight_int8pack_mm


class CallCounter(TorchFunctionMode):
    """Counts calls from outside the model."""

    def __init__(self) -> None:
        super().__init__()
        self.n_fused = 0  # calls of torch's fused attention kernel
        self.n_explicit = 0  # calls of the softmax in explicit attention
        self.n_int8 = 0  # calls of the kernel for few rows of int8 weights
        self.n_tokens = 0  # tokens that were embedded, padding included

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

    def require_explicit_only(self, n_calls: int) -> None:
        """Raises NotExercised unless explicit attention ran n_calls times and nothing else."""
        if (self.n_explicit, self.n_fused) != (n_calls, 0):
            raise NotExercised(
                f"explicit attention ran in {self.n_explicit} of {n_calls} calls; "
                f"the fused kernel in {self.n_fused}"
            )

    def require_fused_only(self, n_calls: int) -> None:
        """Raises NotExercised unless the fused kernel ran n_calls times and nothing else."""
        if (self.n_fused, self.n_explicit) != (n_calls, 0):
            raise NotExercised(
                f"the fused kernel ran in {self.n_fused} of {n_calls} calls; "
                f"explicit attention in {self.n_explicit}"
            )

    def require_int8_kernel(self, n_calls: int) -> None:
        """Raises NotExercised unless the int8 kernel ran n_calls times."""
        if self.n_int8 != n_calls:
            raise NotExercised(f"the int8 kernel ran in {self.n_int8} of {n_calls} calls")

    def require_native_step(self, n_tokens: int) -> None:
        """Raises NotExercised unless n_tokens tokens were computed without PyTorch's attention."""
        n_calls = self.n_fused + self.n_explicit
        if n_calls or self.n_tokens != n_tokens:
            raise NotExercised(
                f"the native step computed {n_tokens} tokens only with {n_calls} calls of "
                "PyTorch's attention"
            )

    def require_tokens(self, n_tokens: int, n_padding: int = 0) -> None:
        """Raises NotExercised unless n_tokens tokens, and at most n_padding more, were computed."""
        if not n_tokens <= self.n_tokens <= n_tokens + n_padding:
            enough = f"{n_tokens} and {n_padding} of padding" if n_padding else str(n_tokens)
            raise NotExercised(f"{self.n_tokens} tokens were computed where {enough} suffice")


@contextmanager
def count_calls(model: GPT2Model) -> Iterator[CallCounter]:
    """Inside this context the counter counts the calls that `model` makes."""
    counter = CallCounter()

    def count_explicit(*call: object) -> None:
        counter.n_explicit += 1

    def count_tokens(layer: object, inputs: tuple, output: object) -> None:
        counter.n_tokens += inputs[0].numel()

    softmaxes = [layer for layer in model.modules() if isinstance(layer, CausalSoftmax)]
    hooks = [softmax.register_forward_hook(count_explicit) for softmax in softmaxes]
    hooks.append(model.token_embedding.register_forward_hook(count_tokens))
    try:
        with counter:
            yield counter
    finally:
        for hook in hooks:
            hook.remove()
