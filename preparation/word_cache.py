"""Encoding several times as fast as the library: a word that was encoded once is looked up.

    "She said, she said"  ->  "She" " said," " she" " said"  ->  the tokens of each, end to end

GPT-2's pattern never joins the two sides of a place behind a visible character and before white
space, so the tokens of a text are those of the words between such places, whatever stands around
them. Text repeats its words: nearly all of them are found in a dictionary.
Previous: jobs.py.  Next: worker_process.py.
"""

import json
import re
from itertools import pairwise

import numpy as np

from tokenizer import Tokenizer

# Unicode's White_Space, which is \s in GPT-2's pattern. Python's own \s has four characters more
# and is faster, so it is used for every text that has none of the four.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B)))
WHITE_SPACE += "\u2028\u2029\u202f\u205f\u3000"
WORDS = re.compile(f"[{WHITE_SPACE}]*[^{WHITE_SPACE}]+|[{WHITE_SPACE}]+")
SIMPLE_WORDS = re.compile(r"\s*\S+|\s+")  # the same words, in a text without PYTHON_WHITE_SPACE
PYTHON_WHITE_SPACE = "\x1c\x1d\x1e\x1f"  # which Python alone counts as white space
MAX_CHARACTERS = 2_000_000  # of all words in the cache: some 60 MB with their tokens


class WordCache:
    """A tokenizer that keeps the tokens of the words that it has encoded."""

    def __init__(
        self, tokenizer: Tokenizer, dtype: np.dtype, max_characters: int = MAX_CHARACTERS
    ) -> None:
        """dtype is that of the token files. With more than max_characters the cache is emptied."""
        self.tokenizer, self.dtype, self.max_characters = tokenizer, dtype, max_characters
        self.tokens: dict[str, bytes] = {}  # of each word
        self.n_characters = 0
        self.fits = splits_before_white_space(tokenizer)
        if self.fits:
            ids = range(tokenizer.vocab_size)
            self.n_bytes = np.array([len(tokenizer.token_bytes(id)) for id in ids])

    def encode(self, text: str) -> bytes:
        """Returns the tokens of a text, in the bytes of a token file.

        Raises UnseenCharacter where a tokenizer of characters does not have one of the text.
        """
        if not self.fits:
            return self.as_bytes(self.tokenizer.encode(text))
        if self.n_characters > self.max_characters:
            self.tokens.clear()
            self.n_characters = 0
        pattern = WORDS if any(map(text.__contains__, PYTHON_WHITE_SPACE)) else SIMPLE_WORDS
        words = pattern.findall(text)
        try:
            return b"".join(map(self.tokens.__getitem__, words))
        except KeyError:
            self.add(set(words).difference(self.tokens))
        return b"".join(map(self.tokens.__getitem__, words))

    def add(self, words: set[str]) -> None:
        """Encodes words that the cache does not have.

        Those that begin with white space and end without it are encoded as one text, for speed:
        between two of them there is always a place at which the pattern splits.
        """
        inner = [w for w in words if w[0] in WHITE_SPACE and w[-1] not in WHITE_SPACE]
        ids = np.array(self.tokenizer.encode("".join(inner)), self.dtype)
        stops = np.cumsum([0, *(len(word.encode()) for word in inner)])
        places = np.searchsorted(np.cumsum(self.n_bytes[ids]), stops, side="right").tolist()
        for word, (start, stop) in zip(inner, pairwise(places), strict=True):
            self.tokens[word] = ids[start:stop].tobytes()
        others = list(words.difference(inner))
        encoded = map(self.as_bytes, self.tokenizer.encode_batch(others))
        self.tokens.update(zip(others, encoded, strict=True))
        self.n_characters += sum(map(len, words))

    def as_bytes(self, ids: list[int]) -> bytes:
        """Returns ids in the bytes of a token file."""
        return np.array(ids, self.dtype).tobytes()


def splits_before_white_space(tokenizer: Tokenizer) -> bool:
    """Returns whether a tokenizer splits text by GPT-2's own pattern and changes nothing else."""
    settings = json.loads(tokenizer.to_json())
    splitter = settings["pre_tokenizer"] or {}
    by_pattern = splitter.get("type") == "ByteLevel" and splitter.get("use_regex", True)
    added = [token for token in settings["added_tokens"] if not token["special"]]
    unchanged = settings["normalizer"] is None and not splitter.get("add_prefix_space", True)
    return by_pattern and unchanged and not added
