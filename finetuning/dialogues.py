"""Labelled dialogues as training data: each is one row, and rows become batches.

    tokens  = row[:-1]
    targets = row[1:] where the model learns to say it, IGNORE_INDEX elsewhere

A row holds one dialogue alone, so no dialogue sees another. Rows of similar length stand together,
and with them, where asked for, windows of the text that the base model has learned (replay), so
that it does not forget.
Previous: conversations.py.  Next: preview.py.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from cfg_gpt2 import require
from data.order import MixtureSchedule
from data.windows import WindowOrder
from finetuning.chat_format import EncodedDialogue
from load_data import LENGTH_MULTIPLE
from loss import IGNORE_INDEX
from tokenizer import Tokenizer
from training.training_data import Batch

BUCKET_SIZE = 256  # rows that are sorted by length together


@dataclass(frozen=True)
class Row:
    """The tokens of a dialogue or window, and for each whether the model learns to predict it."""

    tokens: np.ndarray  # (T + 1,)
    is_learned: np.ndarray  # (T + 1,) bool


@dataclass(frozen=True)
class DialogueRows:
    """The rows of many dialogues, kept end to end."""

    tokens: np.ndarray  # (N,) uint16 or uint32
    is_learned: np.ndarray  # (N,) bool
    starts: np.ndarray  # (n + 1,) where each row begins, and where the last one ends
    n_bytes: int  # UTF-8 bytes of what is learned, without the end-of-text tokens
    n_left_out: int = 0  # dialogues that do not fit the context and are no rows

    @classmethod
    def of(cls, dialogues: Iterable[EncodedDialogue], tokenizer: Tokenizer) -> "DialogueRows":
        """Returns the rows of dialogues. Raises ValueError where there is none."""
        tokens, learned, starts = [], [], [0]
        dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
        for dialogue in dialogues:
            tokens.append(np.array(dialogue.tokens, dtype=dtype))
            learned.append(np.array(dialogue.is_learned, dtype=bool))
            starts.append(starts[-1] + len(dialogue.tokens))
        require(len(tokens) > 0, "there is no dialogue to learn from; give at least two")
        together, mask = np.concatenate(tokens), np.concatenate(learned)
        n_bytes = int(bytes_per_token(tokenizer)[together[mask]].sum())
        return cls(together, mask, np.array(starts), n_bytes)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> Row:
        start, stop = self.starts[number], self.starts[number + 1]
        return Row(self.tokens[start:stop], self.is_learned[start:stop])

    @property
    def n_targets(self) -> int:
        """The tokens that are predicted."""
        return int(self.is_learned.sum())

    @cached_property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each row, (n,)."""
        return np.diff(self.starts)


def bytes_per_token(tokenizer: Tokenizer) -> np.ndarray:
    """Returns the UTF-8 bytes that each token stands for, (V,); 0 for the end of text."""
    sizes = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    known = set(range(tokenizer.vocab_size))
    known -= {tokenizer.end_of_text, *tokenizer.ids_without_token(tokenizer.vocab_size)}
    for id in known:
        sizes[id] = len(tokenizer.token_bytes(id))
    return sizes


@dataclass(frozen=True)
class Replay:
    """Windows of the text that the base model has learned, read beside the dialogues."""

    order: WindowOrder
    share: float  # of the learned tokens that come from them
    mean_length: float  # tokens of a window
    sha256: str  # of the text

    def row(self, number: int) -> Row:
        """Returns a window as a row of which every token is learned."""
        stream, start, length = self.order.window(number)
        tokens = np.asarray(stream[start : start + length + 1])
        return Row(tokens, np.ones(len(tokens), dtype=bool))


@dataclass(frozen=True)
class DialogueCorpus:
    """Labelled dialogues as the trainer needs them; see training/training_data.py."""

    tokenizer: Tokenizer
    train: DialogueRows
    validation: DialogueRows
    replay: Replay | None = None
    floor_bits_per_byte: float | None = None  # 0 where every answer follows from its question

    def windows(self, context_length: int, seed: int) -> "DialogueWindows":
        """Returns the training rows in the order in which they are read."""
        end = self.tokenizer.end_of_text
        return DialogueWindows(self.train, self.replay, context_length, seed, end)

    def evaluation_batches(self, context_length: int, batch_size: int) -> Iterator[Batch]:
        """Yields batches that hold each validation dialogue once, sorted by length."""
        order = np.argsort(self.validation.lengths, kind="stable").tolist()
        for first in range(0, len(order), batch_size):
            rows = [self.validation[number] for number in order[first : first + batch_size]]
            yield collate_rows(rows, context_length, self.tokenizer.end_of_text)

    def sha256(self) -> str:
        """Returns a hash of all tokens, of which of them are learned, and of the replay."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation):
            for numbers in (part.tokens, part.is_learned, part.starts):
                digest.update(numbers.tobytes() + b"|")
        if self.replay:
            digest.update(f"{self.replay.share} {self.replay.sha256}".encode())
        return digest.hexdigest()


class BucketedOrder:
    """The numbers of rows without end: each once an epoch, in random order, equal lengths together.

    The order is a pure function of the lengths, the seed and the epoch.
    """

    def __init__(self, lengths: np.ndarray, seed: int) -> None:
        self.lengths, self.seed = lengths, seed
        self._start_epoch(0)

    def _start_epoch(self, epoch: int) -> None:
        """Shuffles the rows, and sorts every BUCKET_SIZE that follow each other by length."""
        generator = np.random.default_rng(np.random.SeedSequence((self.seed % 2**64, epoch)))
        shuffled = generator.permutation(len(self.lengths))
        buckets = np.arange(len(shuffled)) // BUCKET_SIZE
        self.epoch = epoch
        self.numbers = shuffled[np.lexsort((self.lengths[shuffled], buckets))]

    def __getitem__(self, place: int) -> int:
        """Returns the number of the row at a place, counted from 0."""
        epoch, place = divmod(place, len(self.lengths))
        if epoch != self.epoch:
            self._start_epoch(epoch)
        return int(self.numbers[place])


class DialogueWindows:
    """Rows in an endless order: each dialogue once an epoch, in random order, and the replay."""

    def __init__(
        self,
        rows: DialogueRows,
        replay: Replay | None,
        context_length: int,
        seed: int,
        end_of_text: int,
    ) -> None:
        self.rows, self.replay = rows, replay
        self.context_length, self.end_of_text = context_length, end_of_text
        share = round(share_of_windows(rows, replay), 6) if replay else 0
        self.schedule = MixtureSchedule([1 - share, share]) if share else None
        self.order = BucketedOrder(rows.lengths, seed)

    def row(self, number: int) -> Row:
        """Returns the row with a number, counted from 0."""
        if self.schedule and self.replay:
            source, number = self.schedule.source(number)
            if source == 1:
                return self.replay.row(number)
        return self.rows[self.order[number]]

    def batch(self, first: int, count: int, step: int = 1) -> Batch:
        """Returns rows first, first + step, ..., `count` in all: two of (B, T) int64."""
        numbers = range(first, first + count * step, step)
        rows = [self.row(number) for number in numbers]
        return collate_rows(rows, self.context_length, self.end_of_text)

    def epochs(self, n_windows: int) -> list[float]:
        """Returns how often the first n_windows go through the dialogues."""
        count = self.schedule.counts(n_windows)[0] if self.schedule else n_windows
        return [count / len(self.rows)]


def share_of_windows(rows: DialogueRows, replay: Replay) -> float:
    """Returns the share of windows among the rows that gives the replay its share of targets."""
    windows = replay.share * rows.n_targets / len(rows)
    return windows / (windows + (1 - replay.share) * replay.mean_length)


def collate_rows(rows: Sequence[Row], context_length: int, end_of_text: int) -> Batch:
    """Returns rows as one batch of tokens and targets, (B, T) int64.

    T is the length of the longest row, rounded up to a multiple of LENGTH_MULTIPLE.
    """
    longest = max(len(row.tokens) - 1 for row in rows)
    width = min(context_length, -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE)
    tokens = np.full((len(rows), width), end_of_text, dtype=np.int64)
    targets = np.full((len(rows), width), IGNORE_INDEX, dtype=np.int64)
    for number, row in enumerate(rows):
        T = len(row.tokens) - 1
        tokens[number, :T] = row.tokens[:-1]
        targets[number, :T] = np.where(
            row.is_learned[1:], row.tokens[1:].astype(np.int64), IGNORE_INDEX
        )
    return torch.from_numpy(tokens), torch.from_numpy(targets)
