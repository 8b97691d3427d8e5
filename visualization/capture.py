"""Trace: every quantity inside a model while it reads tokens, taken by hooks from outside.

    x = block(x)                       residual: x before each block, and behind the last one
        q, k, v = qkv_proj(norm(x))    qkv
        A = causal_softmax(q k^T)      weights
        z = A v, heads side by side    heads
        x = x + out_proj(z)            middle: x between attention and feed-forward
        n = gelu(widen_proj(norm(x)))  neurons

A hook that returns a tensor puts it in the place of the one it got: see edits.py. Hooks stay only
inside `hooked()`, so that a model is as before whatever happens.
Previous: weights.py.  Next: edits.py.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from gpt2 import GPT2Model
from multiheadattention import explicit_attention
from transformer_block import TransformerBlock

Place = Literal["residual", "qkv", "weights", "heads", "attention", "middle", "neurons"]
PLACES: tuple[Place, ...] = ("residual", "qkv", "weights", "heads", "middle", "neurons")


class Hook(NamedTuple):
    """A function that sees the tensor at a place of a layer, and may return another one for it."""

    place: Place
    layer: int  # of "residual" also n_layer: behind the last block
    see: Callable[[Tensor], Tensor | None]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a model computed for B sequences of T tokens; a place that was left out is empty.

    Each place has an entry for each layer, `residual` one more.
    """

    tokens: Tensor  # (B, T)
    logits: Tensor  # (B, T, V)
    residual: tuple[Tensor, ...] = ()  # (B, T, C)
    qkv: tuple[Tensor, ...] = ()  # (B, T, 3C)
    weights: tuple[Tensor, ...] = ()  # (B, H, T, T); each row sums to 1
    heads: tuple[Tensor, ...] = ()  # (B, T, C): head h is columns hD to (h+1)D
    attention: tuple[Tensor, ...] = ()  # (B, T, C): what attention adds
    middle: tuple[Tensor, ...] = ()  # (B, T, C)
    neurons: tuple[Tensor, ...] = ()  # (B, T, F)

    def q_k_v(self, layer: int, n_head: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns queries, keys and values of a layer, each (B, H, T, D)."""
        q, k, v = self.qkv[layer].unflatten(-1, (3, n_head, -1)).unbind(dim=2)  # (B, T, H, D)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


@torch.no_grad()
def capture(model: GPT2Model, tokens: Tensor, places: Sequence[Place] = PLACES) -> Trace:
    """Runs the model on tokens, (B, T), with attention written out, and returns what it saw."""
    n_layer, seen = model.config.n_layer, dict[tuple[Place, int], Tensor]()

    def keep(place: Place, layer: int) -> Hook:
        def see(x: Tensor) -> None:
            seen[place, layer] = x

        return Hook(place, layer, see)

    layers = {place: range(n_layer + (place == "residual")) for place in places}
    hooks = [keep(place, layer) for place in places for layer in layers[place]]
    with explicit_attention(), hooked(model, hooks):
        logits = model(tokens)
    found = {str(place): tuple(seen[place, layer] for layer in layers[place]) for place in places}
    return Trace(tokens=tokens, logits=logits, **found)


@contextmanager
def hooked(model: GPT2Model, hooks: Sequence[Hook]) -> Iterator[None]:
    """Inside this context each hook sees its tensor whenever the model runs, in their order.

    The model must run its plain forward pass: a compiled one would pass the hooks by.
    """
    plain = (m.__dict__.get("_compiled_call_impl") is None for m in model.modules())
    assert all(plain) and "forward" not in vars(model), "hooks need a model that is not compiled"
    with ExitStack() as handles:
        for hook in hooks:
            module, is_input = module_of(model, hook.place, hook.layer)
            if is_input:
                handle = module.register_forward_pre_hook(on_input(hook.see))
            else:
                handle = module.register_forward_hook(on_output(hook.see))
            handles.callback(handle.remove)
        yield


def block_of(model: GPT2Model, layer: int) -> TransformerBlock:
    """Returns the block of a layer."""
    return cast(TransformerBlock, model.blocks[layer])


def module_of(model: GPT2Model, place: Place, layer: int) -> tuple[nn.Module, bool]:
    """Returns the module at whose input (True) or output (False) a place's tensor passes."""
    if place == "residual" and layer == model.config.n_layer:
        return model.final_norm, True
    block = block_of(model, layer)
    modules: dict[Place, tuple[nn.Module, bool]] = {
        "residual": (block, True),
        "qkv": (block.attention.qkv_proj, False),
        "weights": (block.attention.causal_softmax, False),
        "heads": (block.attention.out_proj, True),
        "attention": (block.attention, False),
        "middle": (block.feedforward_norm, True),
        "neurons": (block.feedforward.narrow_proj, True),
    }
    return modules[place]


def on_input(
    see: Callable[[Tensor], Tensor | None],
) -> Callable[[nn.Module, tuple], tuple | None]:
    """Returns a forward pre-hook of torch that shows a function the first argument."""

    def pre_hook(module: nn.Module, arguments: tuple) -> tuple | None:
        changed = see(arguments[0])
        return None if changed is None else (changed, *arguments[1:])

    return pre_hook


def on_output(
    see: Callable[[Tensor], Tensor | None],
) -> Callable[[nn.Module, tuple, Tensor], Tensor | None]:
    """Returns a forward hook of torch that shows a function the output."""
    return lambda module, arguments, output: see(output)
