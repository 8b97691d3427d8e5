"""Items of a task: a context, its possible continuations and the right one, from JSON lines.

Previous: measure_task.py.  Next: continuations.py.
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
from run_directory.json_file import MAX_BYTES, first_error
from run_directory.paths import require_file
from tokenizer import Tokenizer, UnseenCharacter

Row = TypeVar("Row")


@dataclass(frozen=True, kw_only=True)
class Item:
    """A question of a task: a context and its possible continuations."""

    line: int  # of the file, counted from 1
    context: str
    continuations: list[str]
    answer: int  # the index of the right continuation


@dataclass(frozen=True, kw_only=True)
class ScoredItem:
    """An item, and the likelihoods that a model gives to its continuations."""

    item: Item
    likelihoods: list[Likelihood]

    @property
    def log_probabilities(self) -> list[float]:
        """The log-probability of each continuation, in nats."""
        return [likelihood.log_probability for likelihood in self.likelihoods]


def read_items(
    file: Path, row: type[Row], make: Callable[[int, Row], Item], limit: int | None
) -> list[Item]:
    """Returns the first `limit` items of a file; None: all.

    Raises FileNotFoundError where there is no file, ValueError with the number of a wrong line.
    """
    require_file(file, "name the task's JSONL file")
    adapter, items = TypeAdapter(row), []
    with file.open("rb") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(MAX_BYTES), b""), start=1):
            if limit is not None and len(items) == limit:
                break
            if not line.strip():
                continue
            try:
                parsed = adapter.validate_json(line.removeprefix(codecs.BOM_UTF8))
                items.append(make(number, parsed))
            except ValidationError as error:
                raise ValueError(f"{file}, line {number}: {first_error(error)}") from None
            except ValueError as error:
                raise ValueError(f"{file}, line {number}: {error}") from None
    require(len(items) > 0, f"{file} has no items; name the task's JSONL file")
    return items


def encode_items(items: list[Item], tokenizer: Tokenizer, file: Path) -> list[Request]:
    """Returns a request for each continuation of each item, in order.

    Raises UnseenCharacter with the line of a character that the tokenizer does not have.
    """
    pairs = [(item.context, text) for item in items for text in item.continuations]
    lines = [item.line for item in items for _ in item.continuations]
    try:
        requests = encode_pairs(tokenizer, pairs)
    except UnseenCharacter as error:
        line = next(n for n, (a, b) in zip(lines, pairs, strict=True) if error.text in a + b)
        raise error.within(0, f"what is read of {file}, line {line},") from None
    return requests


def require_fit(
    items: list[Item], requests: list[Request], context_length: int, file: Path
) -> None:
    """Raises ValueError for a continuation that does not fit into the model's context."""
    lines = [item.line for item in items for _ in item.continuations]
    for line, request in zip(lines, requests, strict=True):
        n_tokens = len(request.continuation)
        require(
            1 <= n_tokens <= context_length,
            f"{file}, line {line}: a continuation has {n_tokens} tokens and the model's context "
            f"{context_length}; leave the item out, or take a model with more context",
        )


def group_by_item(items: list[Item], likelihoods: list[Likelihood]) -> list[ScoredItem]:
    """Returns the items, each with the likelihoods of its continuations."""
    rest = iter(likelihoods)
    return [
        ScoredItem(item=item, likelihoods=[next(rest) for _ in item.continuations])
        for item in items
    ]


def mean(values: list[bool] | list[float]) -> float:
    """Returns the mean of at least one value."""
    return sum(values) / len(values)


def standard_error(values: list[bool]) -> float | None:
    """Returns the standard error of the mean, or None for a single value."""
    return stdev(map(float, values)) / len(values) ** 0.5 if len(values) > 1 else None
