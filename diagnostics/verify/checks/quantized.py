"""Int8 weights, put in from outside: against the weights that they round, and by their kernel.

    W = s Q + e,   |e| <= s / 2        s, one for each row, is the step of its integers

What such an e does to the logits depends on the model. So it is drawn, evenly between -s/2 and
s/2 for each weight, as rounding to the nearest spreads it, and the formula runs with it.
Previous: machines.py.  Next: formats.py.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from diagnostics.verify.check import Finding, NotHere, NotTaken
from diagnostics.verify.rounding import largest, logit_bound, reason
from diagnostics.verify.subject import Subject
from diagnostics.verify.witness import watch
from gpt2 import GPT2Model
from multiheadattention import explicit_attention
from quantization import int8

DRAWS = 2  # the error that there is is another draw of the same kind
MOST_READ = 32  # tokens of each text, for they are read in small pieces


@torch.inference_mode()
def int8_weights(subject: Subject) -> Finding:
    """Each weight within half a step of what it was, and the logits as near as that allows."""
    model = int8.quantize(copy.deepcopy(subject.model))
    away = max(steps_away(weight, layer) for weight, layer in pairs(subject.model, model))
    if not away <= 0.5:
        return Finding(away, 0.5, "steps from a weight to its integer; the nearest is half a step")
    noisy = copy.deepcopy(subject.model)
    generator = torch.Generator(subject.device).manual_seed(1)
    for weight, layer in pairs(noisy, model):
        drawn = torch.rand(weight.shape, generator=generator, device=weight.device)
        weight += (drawn - 0.5) * layer.scale.unsqueeze(1)
    with explicit_attention():
        difference = largest(model(subject.tokens), subject.logits)
        moved = largest(noisy(subject.tokens), subject.logits)
    why = f"{DRAWS} x what drawn errors of at most half a step in each weight move the logits"
    return Finding(difference, DRAWS * moved, why)


@torch.inference_mode()
def int8_kernel(subject: Subject) -> Finding:
    """Few rows, by the kernel that takes integers, against the same integers made into floats."""
    if subject.device.type != "cpu":
        raise NotHere("the kernel for few rows of int8 weights is the CPU's")
    model, floats = int8.quantize(copy.deepcopy(subject.model)), copy.deepcopy(subject.model)
    matrices = list(pairs(floats, model))
    for weight, layer in matrices:
        weight.copy_(layer.weight * layer.scale.unsqueeze(1))
    tokens = subject.tokens[:, :MOST_READ]
    pieces = tokens.split(int8.FEW // len(tokens), dim=1)
    cache = model.new_cache(len(tokens))
    with watch(model) as seen, explicit_attention():
        found = torch.cat([model(piece, cache) for piece in pieces], dim=1)
    seen.require_int8_kernel(len(matrices) * len(pieces))
    with explicit_attention():
        wanted = floats(tokens)
    bound = logit_bound(floats, tokens, wanted, torch.bfloat16)
    return Finding(largest(found, wanted), bound, reason(torch.bfloat16))


def pairs(plain: GPT2Model, model: GPT2Model) -> Iterator[tuple[Tensor, int8.Int8Linear]]:
    """Every matrix, and the layer that has its integers. Raises NotTaken where one has none."""
    for name, linear in plain.named_modules():
        if isinstance(linear, nn.Linear):
            layer = model.get_submodule(name)
            if not isinstance(layer, int8.Int8Linear):
                raise NotTaken(f"{name} has no int8 weights")
            yield linear.weight, layer


def steps_away(weight: Tensor, layer: int8.Int8Linear) -> float:
    """The largest distance of a weight from its integer, in steps."""
    return float((weight / layer.scale.unsqueeze(1) - layer.weight).abs().max())
