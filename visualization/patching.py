"""Patching: what a model has to be told of a story so that it names the place of its twin.

    effect = (d_patched - d_corrupt) / (d_clean - d_corrupt)        d = logit(right) - logit(other)

A twin is the same story with two places exchanged. Both are read up to a word that names one of
them as a known fact, so the right answer of each is the wrong one of the other. The model reads the
twin (the corrupt run) while part of what it computed for the story (the clean run) is put in its
place: an effect of 1 gives the story's answer, 0 changes nothing.             Meng et al. 2022
Previous: fact_heads.py.  Next: twin.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from data.tiny_world.stories import Story
from data.tiny_world.world import Language
from gpt2 import GPT2Model
from tokenizer import Tokenizer
from visualization.ablation import residuals, run_from
from visualization.attribution import along_heads, as_stream_sees
from visualization.capture import Hook, capture, hooked
from visualization.facts import PHRASES, Mention, find_mentions, known_places, told_by
from visualization.ideal import IdealReader
from visualization.inspection import Report

ROLES = ("statement", "behind it", "other places", "elsewhere", "question")
BEHIND = 2  # tokens behind a noun that count as "behind it": its full stop and what follows
N_PAIRS = 100


class Pair(NamedTuple):
    """A story and its twin, both cut before the noun that answers."""

    clean: list[int]
    corrupt: list[int]
    right: int  # the token of the clean answer
    other: int  # that of the corrupt one
    kind: str  # of the event that names the place
    roles: dict[str, list[int]]  # positions, from the first difference on; each has one role


def exchange(story: Story, first: str, second: str, language: Language) -> Story:
    """Returns the twin of a story, in which two places are exchanged; it is as probable."""
    places, twin = {first: second, second: first}, Story()
    for event in story.events:
        moved = replace(event, where=places.get(event.where, event.where))
        twin.append(moved, language.tell(twin.state, moved), 0.0)
    twin.bits = story.bits
    return twin


def places_like(place: str, language: Language) -> list[str]:
    """Returns the other places with the same preposition."""
    at = PHRASES[language.name][0]
    first = at[place].split(" ")[0]
    return sorted(other for other in at if other != place and at[other].split(" ")[0] == first)


def pairs_of(story: Story, tokenizer: Tokenizer, reader: IdealReader) -> Iterator[Pair | None]:
    """Yields a pair for each known place of a story that has a twin.

    The other place is one that the story names before, with the same preposition. None stands for
    a pair that is left out, because its names have unequal numbers of tokens.
    """
    mentions = find_mentions(told_by(story, reader, 1), reader)
    for mention in known_places(mentions):
        named = {m.place for m in mentions if m.first < mention.first}
        others = [place for place in places_like(mention.place, reader.language) if place in named]
        for other in others[:1]:
            yield pair_of(story, mention, other, tokenizer, reader)


def pair_of(
    story: Story, mention: Mention, other: str, tokenizer: Tokenizer, reader: IdealReader
) -> Pair | None:
    """Returns a story and its twin, in which another place answers instead of the one mentioned.

    None where the names have unequal numbers of tokens.
    """
    end, cut = [tokenizer.end_of_text], mention.first
    twin = exchange(story, mention.place, other, reader.language)
    tokens, corrupt = (end + tokenizer.encode(each.text) for each in (story, twin))
    mentions, others = (
        spans_of(find_mentions(told_by(each, reader, 1), reader)) for each in (story, twin)
    )
    if len(corrupt) != len(tokens) or mentions != others or tokens[cut] == corrupt[cut]:
        return None
    roles = roles_of(tokens[:cut], corrupt[:cut], mention)
    return Pair(tokens[:cut], corrupt[:cut], tokens[cut], corrupt[cut], mention.kind, roles)


def spans_of(mentions: Sequence[Mention]) -> list[tuple[int, int]]:
    """Returns where the nouns stand."""
    return [(mention.first, mention.stop) for mention in mentions]


def roles_of(clean: list[int], corrupt: list[int], mention: Mention) -> dict[str, list[int]]:
    """Returns the positions of each of ROLES, from the first difference on."""
    last = len(clean) - 1
    differing = [t for t, pair in enumerate(zip(clean, corrupt, strict=True)) if len({*pair}) > 1]
    statement = set(mention.sources)
    behind = {t + k for t in statement for k in range(1, BEHIND + 1)}
    roles: dict[str, list[int]] = {role: [] for role in ROLES}
    for t in range(differing[0], last + 1):
        if t == last:
            roles["question"].append(t)
        elif t in statement:
            roles["statement"].append(t)
        elif t in behind:
            roles["behind it"].append(t)
        else:
            roles["other places" if t in differing else "elsewhere"].append(t)
    return roles


def find_pairs(
    stories: Iterable[Story],
    tokenizer: Tokenizer,
    reader: IdealReader,
    context_length: int,
    n: int = N_PAIRS,
) -> tuple[list[Pair], int]:
    """Returns the first n pairs of stories, and how many were left out, or do not fit."""
    found, left_out = list[Pair](), 0
    for story in stories:
        for pair in pairs_of(story, tokenizer, reader):
            if pair is None or len(pair.clean) > context_length:
                left_out += 1
            else:
                found.append(pair)
        if len(found) >= n:
            break
    return found[:n], left_out


@dataclass(frozen=True)
class Runs:
    """The clean and the corrupt run of some pairs, one beside the other."""

    clean: Tensor  # (B, T) tokens; the end of text behind shorter ones
    corrupt: Tensor  # (B, T)
    last: Tensor  # (B,) the position of the question
    answers: Tensor  # (B, 2) the right token and the other one
    roles: dict[str, Tensor]  # (B, T) whether a position has a role

    def difference(self, logits: Tensor) -> Tensor:
        """(B, T, V) -> (B,): the logit of the right answer minus that of the other one."""
        rows = torch.arange(len(self.last))
        chosen = logits[rows, self.last].gather(1, self.answers)  # (B, 2)
        return chosen[:, 0] - chosen[:, 1]


def lay_side_by_side(pairs: Sequence[Pair], end_of_text: int) -> Runs:
    """Returns pairs as tensors."""
    width = max(len(pair.clean) for pair in pairs)

    def padded(tokens: list[int]) -> list[int]:
        return tokens + [end_of_text] * (width - len(tokens))

    roles = {role: torch.zeros(len(pairs), width, dtype=torch.bool) for role in ROLES}
    for row, pair in enumerate(pairs):
        for role, positions in pair.roles.items():
            roles[role][row, positions] = True
    return Runs(
        clean=torch.tensor([padded(pair.clean) for pair in pairs]),
        corrupt=torch.tensor([padded(pair.corrupt) for pair in pairs]),
        last=torch.tensor([len(pair.clean) - 1 for pair in pairs]),
        answers=torch.tensor([[pair.right, pair.other] for pair in pairs]),
        roles=roles,
    )


@dataclass(frozen=True)
class Effects:
    """What patching does, as a share of the way from the corrupt to the clean answer."""

    residual: dict[str, list[float]]  # for each role, before each layer and behind the last one
    heads: Tensor  # (L, H): a head's output at the question
    adds: Tensor  # (L, H): logits that a head adds there to the lead of the right answer
    n: int
    clean_right: float  # share of pairs in which the clean run prefers the right answer
    corrupt_right: float  # the same of the corrupt run, by the clean run's answer


@torch.no_grad()
def patch(model: GPT2Model, runs: Runs, report: Report = lambda *_: None) -> Effects:
    """Patches each role before each layer, and each head at the question, in all pairs at once.

    An effect is the mean difference over all pairs, as a share of what the clean run would give.
    """
    n_layer, n_head = model.config.n_layer, model.config.n_head
    clean, corrupt = residuals(model, runs.clean), residuals(model, runs.corrupt)
    heads = capture(model, runs.clean, ["heads"]).heads
    best = runs.difference(run_from(model, n_layer, clean[-1]))
    worst = runs.difference(run_from(model, n_layer, corrupt[-1]))

    done, total = 0, len(runs.roles) * (n_layer + 1) + n_layer * n_head

    def effect(logits: Tensor) -> float:
        nonlocal done
        done += 1
        report(done, total)
        gained = (runs.difference(logits) - worst).mean() / (best - worst).mean()
        return float(gained)

    residual = {
        role: [
            effect(patched_logits(model, layer, here, clean, corrupt))
            for layer in range(n_layer + 1)
        ]
        for role, here in runs.roles.items()
    }
    of_heads = torch.zeros(n_layer, n_head)
    for layer, head in product(range(n_layer), range(n_head)):
        with hooked(model, [patch_head(layer, head, heads[layer], runs.last, n_head)]):
            of_heads[layer, head] = effect(run_from(model, layer, corrupt[layer]))
    rights = [float((difference > 0).float().mean()) for difference in (best, worst)]
    adds = lead_by_head(model, runs, clean[-1], heads)
    return Effects(residual, of_heads, adds, len(runs.last), *rights)


def lead_by_head(model: GPT2Model, runs: Runs, x: Tensor, heads: Sequence[Tensor]) -> Tensor:
    """Returns what each head adds to the lead of the right answer, in logits: the mean, (L, H).

    x is the stream behind the last layer of the clean run, and heads are its outputs, (B, T, C).
    """
    rows = torch.arange(len(runs.last))
    right, other = model.lm_head.weight[runs.answers.T].double()  # each (B, C)
    direction = as_stream_sees(model, (right - other)[:, None], x[rows, runs.last])  # (B, 1, C)
    return torch.stack([
        along_heads(model, layer, direction, z[rows, runs.last]).mean(dim=0)[0]
        for layer, z in enumerate(heads)
    ])  # fmt: skip


def patched_logits(
    model: GPT2Model, layer: int, here: Tensor, clean: Sequence[Tensor], corrupt: Sequence[Tensor]
) -> Tensor:
    """Returns the logits of the corrupt run with the clean stream before a layer at some positions.

    Args:
        model: the model.
        layer: the layer before which the stream is patched; n_layer: behind the last one.
        here: whether a position is patched, (B, T).
        clean: the streams of the clean run, before each layer and at the end, (B, T, C).
        corrupt: those of the corrupt run.
    """
    x = torch.where(here[..., None], clean[layer], corrupt[layer])
    return run_from(model, layer, x)


def patch_head(layer: int, head: int, clean: Tensor, last: Tensor, n_head: int) -> Hook:
    """Puts a head's clean output, of (B, T, C), in place of its output at the question."""

    def see(now: Tensor) -> Tensor:
        rows = torch.arange(len(last))
        patched = now.clone().unflatten(-1, (n_head, -1))  # (B, T, H, D)
        patched[rows, last, head] = clean.unflatten(-1, (n_head, -1))[rows, last, head]
        return patched.flatten(start_dim=2)

    return Hook("heads", layer, see)
