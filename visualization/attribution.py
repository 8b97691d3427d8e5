"""Direct attribution: how much each part of the model added to the logit of a token.

    logit_v = sum over parts of W_v . gamma (part - mean(part)) / s  +  W_v . beta
    s       = sqrt(var(x_L) + eps), frozen            the parts add up to x_L, the residual stream

The parts: the token's and the position's embedding, each head, the bias behind the heads, each
feed-forward, and the bias of the final norm. The difference of two tokens says most: what raises
all logits alike decides nothing. What a part does through later layers is not counted here.
Previous: lens.py.  Next: heads.py.
"""

from dataclasses import dataclass

import torch
from rich.console import Console
from torch import Tensor

from cfg_gpt2 import GPT2Config
from gpt2 import GPT2Model
from layer_norm import EPS
from training.progress import show_table
from visualization.capture import Trace, block_of
from visualization.inspection import Inspection, View

N_CANDIDATES = 3  # tokens for each position: the true one, and the likeliest others
N_PRINTED = 12  # parts that are listed in the terminal


@dataclass(frozen=True)
class Attribution:
    """For the token after each position: what every part added to the logits of candidates."""

    parts: list[str]
    candidates: list[list[int]]  # the true token first, where it is known
    values: list[list[list[float]]]  # by position, candidate and part


def part_names(config: GPT2Config) -> list[str]:
    """Returns the names of the parts, in the order in which attribute() has them."""
    names = ["token", "position"]
    for layer in range(config.n_layer):
        names += [f"{layer}.{head}" for head in range(config.n_head)]
        names += [f"{layer}.attention_bias", f"{layer}.feedforward"]
    return [*names, "norm_bias"]


@torch.no_grad()
def attribute(model: GPT2Model, trace: Trace, candidates: Tensor) -> Tensor:
    """Returns what each of P parts added to logits, in float64: candidates (T, K) -> (T, K, P)."""
    x, norm = trace.residual[-1][0], model.final_norm  # (T, C)
    rows = model.lm_head.weight[candidates].double()  # (T, K, C)
    direction = as_stream_sees(model, rows, x)

    def along(part: Tensor) -> Tensor:
        """Projects a part, (T, C) or (C,), on the directions -> (T, K, 1)."""
        return (direction * part.double().unsqueeze(-2)).sum(dim=-1, keepdim=True)

    tokens = trace.tokens[0]
    values = [
        along(model.token_embedding.weight[tokens]),
        along(model.position_embedding.weight[: len(tokens)]),
    ]
    for layer in range(model.config.n_layer):
        block = block_of(model, layer)
        mix, narrow = block.attention.out_proj, block.feedforward.narrow_proj
        values.append(along_heads(model, layer, direction, trace.heads[layer][0]))
        values.append(along(no_bias(x) if mix.bias is None else mix.bias))
        added = trace.neurons[layer][0].double() @ narrow.weight.double().T  # (T, C)
        values.append(along(added if narrow.bias is None else added + narrow.bias.double()))
    beta = no_bias(x) if norm.bias is None else norm.bias.double()
    values.append((rows * beta).sum(dim=-1, keepdim=True))
    return torch.cat(values, dim=-1)


def as_stream_sees(model: GPT2Model, rows: Tensor, x: Tensor) -> Tensor:
    """Returns the directions of x, (T, C), that raise logits whose rows are (T, K, C), the same.

    The scale of the final norm is frozen at that of x.
    """
    scale = (x.double().var(dim=-1, correction=0, keepdim=True) + EPS).sqrt()  # (T, 1)
    direction = rows * model.final_norm.weight.double()
    return (direction - direction.mean(dim=-1, keepdim=True)) / scale[:, None]


def along_heads(model: GPT2Model, layer: int, direction: Tensor, z: Tensor) -> Tensor:
    """Returns what each head adds along directions, (T, K, C), z being (T, C) -> (T, K, H)."""
    mix = block_of(model, layer).attention.out_proj
    pulled = direction @ mix.weight.double()  # (T, K, C): the direction as the heads see it
    return (pulled * z.double()[:, None]).unflatten(-1, (model.config.n_head, -1)).sum(dim=-1)


def no_bias(x: Tensor) -> Tensor:
    """Returns the bias of a model without biases: zeros, (C,)."""
    return x.new_zeros(x.size(-1))


def attribution_of(inspection: Inspection) -> Attribution:
    """Returns the parts of the logits of the true next token and of the likeliest others."""
    candidates = choose_candidates(inspection.trace)
    values = attribute(inspection.model, inspection.trace, candidates)
    rounded = [[[round(x, 5) for x in row] for row in position] for position in values.tolist()]
    return Attribution(part_names(inspection.model.config), candidates.tolist(), rounded)


def choose_candidates(trace: Trace) -> Tensor:
    """Returns the true next token and the likeliest others at each position, (T, K)."""
    logits, tokens = trace.logits[0], trace.tokens[0]
    likeliest = logits.topk(min(N_CANDIDATES, logits.size(-1))).indices  # (T, K)
    candidates = likeliest.clone()
    for t, true in enumerate(tokens[1:].tolist()):
        others = [id for id in likeliest[t].tolist() if id != true]
        candidates[t] = torch.tensor([true, *others][: likeliest.size(1)])
    return candidates


def show_attribution(console: Console, inspection: Inspection, view: Attribution) -> None:
    """Prints what speaks for a token, the true one where it is known, against the likeliest."""
    t = inspection.position
    first, second = view.candidates[t][:2]
    mine, other = view.values[t][:2]
    difference = [a - b for a, b in zip(mine, other, strict=True)]
    order = sorted(range(len(difference)), key=lambda part: -abs(difference[part]))
    rest = order[N_PRINTED:]
    groups = [(view.parts[part], [part]) for part in order[:N_PRINTED]]
    groups += [(f"{len(rest)} others", rest), ("logit", order)]
    columns = (mine, other, difference)
    rows = [
        [name, *(f"{sum(column[part] for part in parts):+.2f}" for column in columns)]
        for name, parts in groups
    ]
    console.print(f"the token behind {inspection.shown(inspection.tokens[t])} at {t}")
    heading = ["part", inspection.shown(first), inspection.shown(second), "difference"]
    show_table(console, heading, rows, justify="right")


ATTRIBUTION = View(
    attribution_of,
    show_attribution,
    ids=lambda view: (id for row in view.candidates for id in row),
)
