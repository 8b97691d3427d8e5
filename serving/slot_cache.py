"""SlotCache: keys and values of the rows that a server generates, which come and leave.

A slot is memory for one row of context_length tokens. All slots are taken once; the model sees the
first n of them as its batch, so that the native step finds them side by side. The tokens whose
keys lie in a slot are known also after its row has left: a later text that begins with them need
not read them again.
Previous: settings.py.  Next: slots.py.
"""

import copy
from itertools import takewhile

from decoding.ragged_cache import RaggedCache, RaggedKVCache, RowGaps
from gpt2 import GPT2Model


class SlotCache(RaggedCache):
    """A ragged cache that remembers its whole memory, and what is in it.

    Raises ValueError where there is not so much memory.
    """

    def __init__(self, model: GPT2Model, n_slots: int) -> None:
        try:
            super().__init__(model, n_slots, model.config.context_length)
        except RuntimeError as error:  # what PyTorch raises
            raise ValueError(f"no memory for --slots {n_slots}: {error}; try fewer") from None
        self.memory = [(layer.keys, layer.values) for layer in self]
        self.tokens: list[list[int]] = [[] for _ in range(n_slots)]  # cached ones, of each slot

    def select(self, n_rows: int) -> None:
        """Makes the first slots the rows of the batch, each as long as its cached tokens."""
        for layer, (keys, values) in zip(self, self.memory, strict=True):
            layer.keys, layer.values = keys[:n_rows], values[:n_rows]
        self.truncate([len(tokens) for tokens in self.tokens[:n_rows]])

    def view_rows(self, start: int, stop: int, length: int) -> list[RaggedKVCache]:
        """Returns caches of the slots start to stop, with `length` positions each."""
        views = [copy.copy(layer) for layer in self]
        for view, (keys, values) in zip(views, self.memory, strict=True):
            view.keys, view.values = keys[start:stop], values[start:stop]
            view.length, view.rows = length, RowGaps()
        return views

    def swap(self, i: int, j: int) -> None:
        """Exchanges what is in two slots."""
        if i == j:
            return
        n = max(len(self.tokens[i]), len(self.tokens[j]))
        for pair in self.memory:
            for stored in pair:
                stored[[i, j], :, :n] = stored[[j, i], :, :n]
        self.tokens[i], self.tokens[j] = self.tokens[j], self.tokens[i]

    def begin(self, slot: int, tokens: list[int], free: range) -> None:
        """Puts the longest beginning of some tokens that any slot holds into a slot.

        What the slot holds is kept in a free slot where that one has less to lose.
        """

        def loss(n: int) -> tuple[int, int]:
            n_shared = n_equal(self.tokens[n], tokens)
            return len(self.tokens[n]) - n_shared, -n_shared

        self.swap(slot, min((slot, *free), key=loss))
        shared = [n_equal(cached, tokens) for cached in self.tokens]
        n = max(shared)
        if shared[slot] < n:
            source = shared.index(n)
            for pair in self.memory:
                for stored in pair:
                    stored[slot, :, :n] = stored[source, :, :n]
        self.tokens[slot] = tokens[:n]


def n_equal(first: list[int], second: list[int]) -> int:
    """Returns how many tokens two texts begin with alike."""
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
