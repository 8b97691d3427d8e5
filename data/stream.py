"""A stream of tokens: one array, or the arrays of several shards read as if they were one.

    <|endoftext|> document <|endoftext|> document ... <|endoftext|>

An end-of-text token stands before each document and behind the last: it is the boundary between
two documents, the first token of the one and the last target of the other.
Previous: json_lines.py.  Next: notes.py.
"""

from collections.abc import Sequence

import numpy as np

from cfg_gpt2 import require

SCAN_TOKENS = 1 << 24  # tokens that are searched or hashed at a time


class Stream:
    """Arrays of tokens end to end, read as one array: its length, and slices."""

    def __init__(self, parts: Sequence[np.ndarray], n_ids: int | None = None) -> None:
        """n_ids is the number of the tokenizer's ids; with it, each slice is checked."""
        self.parts, self.n_ids = parts, n_ids
        self.stops = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self.stops[-1])

    def __getitem__(self, positions: slice) -> np.ndarray:
        """Returns tokens. Raises ValueError for an id that the tokenizer does not have."""
        start, stop, _ = positions.indices(len(self))
        number = int(np.searchsorted(self.stops, start, side="right"))
        pieces = []
        while start < stop:
            part = self.parts[number]
            part_start = int(self.stops[number]) - len(part)
            pieces.append(part[start - part_start : stop - part_start])
            start, number = part_start + len(part), number + 1
        tokens = np.concatenate(pieces) if len(pieces) > 1 else (pieces or [self.parts[0][:0]])[0]
        if self.n_ids is not None and len(tokens):
            require(
                int(tokens.max()) < self.n_ids,
                f"a shard has token id {tokens.max()}, and its tokenizer {self.n_ids} ids: it is "
                "damaged; find it by main.py prepare --check, and copy it again",
            )
        return tokens

    def part(self, start: int, stop: int) -> "Stream":
        """Returns the tokens start ... stop - 1, at least one, as a stream without a copy."""
        firsts = [int(end) - len(part) for end, part in zip(self.stops, self.parts, strict=True)]
        ranges = [(max(0, start - first), max(0, stop - first)) for first in firsts]
        pairs = zip(self.parts, ranges, strict=True)
        return Stream([part[a:b] for part, (a, b) in pairs if len(part[a:b])], self.n_ids)


TokenStream = np.ndarray | Stream


def token_dtype(vocab_size: int) -> np.dtype:
    """Returns the smallest type of number that holds every id: uint16, or uint32."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def slice_stream(tokens: TokenStream, start: int, stop: int) -> TokenStream:
    """Returns the tokens start ... stop - 1 of a stream, at least one, without a copy."""
    return tokens.part(start, stop) if isinstance(tokens, Stream) else tokens[start:stop]


def document_boundaries(
    tokens: TokenStream, end_of_text: int, scan_tokens: int = SCAN_TOKENS
) -> np.ndarray:
    """Returns the positions of the end-of-text tokens in a stream, in order.

    A document begins at each of them but the last, with the end-of-text token as its first token.
    """
    starts = range(0, len(tokens), scan_tokens)
    found = (s + np.flatnonzero(tokens[s : s + scan_tokens] == end_of_text) for s in starts)
    return np.concatenate(list(found))
