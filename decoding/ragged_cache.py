"""RaggedCache: the keys and values of a whole model for rows of unequal length.

Position p of a row lies in slot p. So rows of unequal length end at unequal slots, and a mask
hides the slots behind a row's end. A decode step gives every row one more position; each row keeps
its gap, the number of slots by which it ends before the longest row:

    position of the next token of row r = length of the longest row - gap[r]

All layers share one object with the gaps and with the mask, which is computed once per step.
Previous: sampling.py.  Next: batch.py.
"""

import copy
import math

import torch
from torch import Tensor

from cfg_gpt2 import GPT2Config
from gpt2 import GPT2Model
from multiheadattention import KVCache


class RowGaps:
    """The gap of each row, and the mask of the current step, for all layers."""

    def __init__(self) -> None:
        self.gaps: Tensor | None = None  # of shape (B,); None: all rows are equally long
        self.mask: Tensor | None = None  # of shape (B, 1, T, S)
        self.mask_sizes: tuple[int, int] | None = None  # cached and new positions, of the mask

    def set_lengths(self, lengths: list[int], device: torch.device) -> None:
        """Computes the gaps from the length of each row."""
        gaps = [max(lengths) - length for length in lengths]
        self.gaps = torch.tensor(gaps, device=device) if any(gaps) else None
        self.mask = self.mask_sizes = None


class RaggedKVCache(KVCache):
    """The keys and values of one layer; `length` is that of the longest row."""

    def __init__(
        self,
        config: GPT2Config,
        batch_size: int,
        capacity: int,
        rows: RowGaps,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(config, batch_size, capacity, device=device, dtype=dtype)
        self.rows = rows

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Two of (B, H, T, D) -> two of (B, H, S, D): each row's new positions behind its end.

        Raises ValueError where the cache is full.
        """
        if self.rows.gaps is None:
            return super().append(k, v)
        slots = self.positions(k.size(-2))  # (B, T)
        self.advance(k.size(-2))
        rows = torch.arange(k.size(0), device=k.device).unsqueeze(1)  # (B, 1)
        self.keys[rows, :, slots] = k.transpose(1, 2)
        self.values[rows, :, slots] = v.transpose(1, 2)
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def positions(self, n_new: int) -> Tensor:
        """Returns the positions of the next n_new tokens: (T,), or (B, T) for unequal lengths."""
        positions = super().positions(n_new)  # (T,)
        gaps = self.rows.gaps
        return positions if gaps is None else positions - gaps.unsqueeze(1)

    def mask(self, n_new: int) -> Tensor | None:
        """Returns (B, 1, T, S): 0 up to the query's own position, then -inf.

        None for rows of equal length, which the causal mask suits.
        """
        rows, sizes = self.rows, (self.length, n_new)
        if rows.gaps is None:
            return None
        if rows.mask_sizes != sizes:
            slots = torch.arange(sum(sizes), device=self.keys.device)  # (S,)
            hidden = slots > self.positions(n_new)[:, None, :, None]  # (B, 1, T, S)
            mask = torch.zeros_like(hidden, dtype=self.keys.dtype).masked_fill(hidden, -math.inf)
            rows.mask, rows.mask_sizes = mask, sizes
        return rows.mask


class RaggedCache(list[RaggedKVCache]):
    """One cache per layer, as GPT2Model takes them; every change is made to all layers."""

    def __init__(self, model: GPT2Model, batch_size: int, capacity: int) -> None:
        self.rows = RowGaps()
        super().__init__(
            RaggedKVCache(
                model.config,
                batch_size,
                capacity,
                self.rows,
                device=model.device,
                dtype=model.dtype,
            )
            for _ in model.blocks
        )

    def truncate(self, lengths: list[int]) -> None:
        """Keeps the first lengths[r] positions of row r and forgets those behind them.

        Positions that were written through `view_rows` count too.
        """
        self.rows.set_lengths(lengths, self[0].keys.device)
        for layer in self:
            layer.length = max(lengths)

    def reorder(self, rows: list[int]) -> None:
        """Row i becomes what row rows[i] was; rows that are not named leave.

        There may be at most as many as before.
        """
        changed = [i for i, row in enumerate(rows) if i != row]
        for layer in self:
            for stored in (layer.keys, layer.values):
                filled = stored[:, :, : layer.length]
                filled[changed] = filled[[rows[i] for i in changed]]
            layer.keys, layer.values = layer.keys[: len(rows)], layer.values[: len(rows)]
        if self.rows.gaps is not None:
            self.truncate((self[0].length - self.rows.gaps[rows]).tolist())

    def view_rows(self, start: int, stop: int, length: int) -> list[RaggedKVCache]:
        """Returns caches of rows start to stop in the same memory, with `length` positions each."""
        views = [copy.copy(layer) for layer in self]
        for view in views:
            view.keys, view.values = view.keys[start:stop], view.values[start:stop]
            view.length, view.rows = length, RowGaps()
        return views
