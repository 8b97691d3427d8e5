"""Slots: a batch of rows that join and leave while the others go on.

Each row is in one of two states. Of a ready row all tokens but the last are in the cache; a step
reads that one for all ready rows and gives the logits of their next tokens. The other rows are
being read: their prompts, or the windows that have moved on (see decoding/batch.py), a piece at a
time and in turn, so that neither the ready rows nor short prompts wait for a long one.
The ready rows have the first slots. A prefix that several texts share is read for one of them.
Previous: slot_cache.py.  Next: scoring.py.
"""

from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor

from decoding.batch import MIN_SAVED_TOKENS, AnyRow, n_tokens, window_start
from gpt2 import GPT2Model
from serving.slot_cache import SlotCache, n_equal


@dataclass(eq=False)
class Reading(Generic[AnyRow]):
    """A row that is being read, and the tokens that the cache has to hold before a step."""

    row: AnyRow
    tokens: list[int]
    has_begun: bool = False  # else what is in its slot belongs to an earlier row


class Slots(Generic[AnyRow]):
    """The rows, their slots in the cache, and what is still to be read."""

    def __init__(self, model: GPT2Model, n_slots: int) -> None:
        self.model, self.n_slots = model, n_slots
        self.cache = SlotCache(model, n_slots)
        self.rows: list[AnyRow] = []  # row i has slot i
        self.n_ready = 0  # the first rows are ready, the others are being read
        self.queue: list[Reading[AnyRow]] = []  # the latter, in the order of their turns

    @property
    def is_full(self) -> bool:
        """Whether there is no slot for another row."""
        return len(self.rows) == self.n_slots

    def join(self, row: AnyRow) -> None:
        """Gives a row the next slot; it is ready when its prompt has been read."""
        self.rows.append(row)
        self.queue.append(Reading(row, self.window(row)[:-1]))

    def leave(self, row: AnyRow) -> None:
        """Takes a row out, whatever its state; its slot is free at once."""
        self.queue = [reading for reading in self.queue if reading.row is not row]
        slot = self.rows.index(row)
        if slot < self.n_ready:
            self.n_ready -= 1
            self.swap(slot, self.n_ready)
            slot = self.n_ready
        self.swap(slot, len(self.rows) - 1)
        self.rows.pop()

    def step(self) -> Tensor:
        """-> (B, V): reads the last token of every ready row."""
        self.cache.select(self.n_ready)
        tokens = [(row.tokens or row.prompt)[-1] for row in self.rows[: self.n_ready]]
        batch = torch.tensor(tokens, device=self.model.device).unsqueeze(1)  # (B, 1)
        logits = self.model(batch, self.cache)[:, -1].float()  # (B, V)
        for cached, token in zip(self.cache.tokens, tokens, strict=False):
            cached.append(token)
        return logits

    def move_windows(self) -> None:
        """Lets the rows whose window has moved on be read again; call it after each new token."""
        for slot in reversed(range(self.n_ready)):
            row = self.rows[slot]
            n_seen = n_tokens(row) - self.start(row)
            if n_seen != len(self.cache.tokens[slot]) + 1:
                self.n_ready -= 1
                self.swap(slot, self.n_ready)
                self.queue.append(Reading(row, self.window(row)[:-1]))

    def read(self, n_tokens: int) -> None:
        """Reads at most n_tokens of the row whose turn it is, with others that fit beside it."""
        group = self.next_group(n_tokens)
        if group:
            first, n_cached = self.rows.index(group[0].row), self.n_cached(group[0])
            pieces = [reading.tokens[n_cached : n_cached + n_tokens] for reading in group]
            longest = max(map(len, pieces))
            padded = [piece + [0] * (longest - len(piece)) for piece in pieces]
            batch = torch.tensor(padded, device=self.model.device)  # (B, T)
            cache = self.cache.view_rows(first, first + len(group), n_cached)
            self.model.hidden_states(batch, cache)
            for cached, piece in zip(self.cache.tokens[first:], pieces, strict=False):
                cached += piece
        for reading in [reading for reading in self.queue if self.is_read(reading)]:
            self.queue.remove(reading)
            self.swap(self.rows.index(reading.row), self.n_ready)
            self.n_ready += 1
        if group and group[0] in self.queue:  # the others' turn
            self.queue.remove(group[0])
            self.queue.append(group[0])

    def next_group(self, n_tokens: int) -> list[Reading[AnyRow]]:
        """Returns the row to be read next, and those after it that are read whole in one pass.

        They lie side by side, are cached equally far, and have n_tokens together, padded.
        """
        group: list[Reading[AnyRow]] = []
        for reading in self.queue:
            if not reading.has_begun:
                if self.is_read_by_another(reading):
                    continue
                free = range(len(self.rows), self.n_slots)
                self.cache.begin(self.rows.index(reading.row), reading.tokens, free)
                reading.has_begun = True
            if self.is_read(reading):
                continue
            together = [*group, reading]
            slots = [self.rows.index(one.row) for one in together]
            left = [len(one.tokens) - self.n_cached(one) for one in together]
            is_beside = slots == [*range(slots[0], slots[0] + len(slots))]
            is_even = self.n_cached(reading) == self.n_cached(together[0])
            if group and not (is_beside and is_even and max(left) * len(left) <= n_tokens):
                break
            group = together
        return group

    def is_read_by_another(self, reading: Reading[AnyRow]) -> bool:
        """Whether another row is about to read what this one begins with."""
        others = [other for other in self.queue if other.has_begun]
        return any(
            n_equal(other.tokens, reading.tokens) >= self.n_cached(other) + MIN_SAVED_TOKENS
            for other in others
        )

    def is_read(self, reading: Reading[AnyRow]) -> bool:
        """Whether the cache holds all that a row needs before a step."""
        return reading.has_begun and self.n_cached(reading) == len(reading.tokens)

    def n_cached(self, reading: Reading[AnyRow]) -> int:
        """Returns how many tokens of a row are in the cache."""
        return len(self.cache.tokens[self.rows.index(reading.row)])

    def swap(self, i: int, j: int) -> None:
        """Exchanges two rows and their slots."""
        self.rows[i], self.rows[j] = self.rows[j], self.rows[i]
        self.cache.swap(i, j)

    def window(self, row: AnyRow) -> list[int]:
        """Returns the tokens of a row that the model still sees."""
        return [*row.prompt, *row.tokens][self.start(row) :]

    def start(self, row: AnyRow) -> int:
        """Returns where the window of a row begins."""
        return window_start(n_tokens(row), self.model.config.context_length)
