"""Items: a context, the ways it may go on, and which of them is right; read from JSON lines.

Previous: continuations.py.  Next: lambada.py.
"""

import codecs
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from cfg_gpt2 import require
from evaluation.continuations import Likelihood, Request, encode_pairs
from tokenizer import Tokenizer, UnseenCharacter

Row = TypeVar("Row")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question."""

    line: int  # of the file
    context: str
    continuations: list[str]
    answer: int  # the one that is right


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model makes of an item."""

    item: Item
    likelihoods: list[Likelihood]

    @property
    def log_probabilities(self) -> list[float]:
        return [likelihood.log_probability for likelihood in self.likelihoods]


def read_items(
    file: Path, row: type[Row], make: Callable[[int, Row], Item], limit: int | None
) -> list[Item]:
    """The first `limit` items of a file. Raises ValueError that names the line that is wrong."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; name the task's JSONL file")
    adapter, items = TypeAdapter(row), []
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if limit is not None and len(items) == limit:
                break
            if not line.strip():
                continue
            try:
                parsed = adapter.validate_json(line.removeprefix(codecs.BOM_UTF8))
                items.append(make(number, parsed))
            except ValidationError as error:
                raise ValueError(f"{file}, line {number}: {reason(error)}") from None
            except ValueError as error:
                raise ValueError(f"{file}, line {number}: {error}") from None
    require(len(items) > 0, f"{file} has no items; name the task's JSONL file")
    return items


def reason(error: ValidationError) -> str:
    """The first thing that is wrong."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


def encode_items(items: list[Item], tokenizer: Tokenizer, file: Path) -> list[Request]:
    """All continuations of all items in one row."""
    pairs = [(item.context, way) for item in items for way in item.continuations]
    lines = [item.line for item in items for _ in item.continuations]
    try:
        requests = encode_pairs(tokenizer, pairs)
    except UnseenCharacter as error:
        line = next(n for n, (a, b) in zip(lines, pairs, strict=True) if error.text in a + b)
        raise error.within(0, f"what is read of {file}, line {line},") from None
    return requests


def require_room(items: list[Item], requests: list[Request], room: int, file: Path) -> None:
    """A continuation has to fit into the model's context as a whole."""
    lines = [item.line for item in items for _ in item.continuations]
    for line, request in zip(lines, requests, strict=True):
        n_tokens = len(request.continuation)
        require(
            1 <= n_tokens <= room,
            f"{file}, line {line}: a continuation has {n_tokens} tokens and the model's context "
            f"{room}; leave the item out, or take a model with more context",
        )


def answers_of(items: list[Item], found: list[Likelihood]) -> list[Answer]:
    """Puts the likelihoods back to their items."""
    rest = iter(found)
    return [
        Answer(item=item, likelihoods=[next(rest) for _ in item.continuations]) for item in items
    ]


def mean(values: list[bool] | list[float]) -> float:
    return sum(values) / len(values)


def standard_error(values: list[bool]) -> float | None:
    """Of the mean; None for a single value."""
    return stdev(map(float, values)) / len(values) ** 0.5 if len(values) > 1 else None
