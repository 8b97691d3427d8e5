"""The tokenizer: text becomes a list of token ids, and token ids become text again.

    text -> words of GPT-2's pattern -> UTF-8 bytes -> bytes merged pair by pair -> ids

Byte-level byte-pair encoding (BPE): Sennrich et al. 2016, algorithm 1, on the bytes of words as in
Radford et al. 2019, section 2.2. It starts from the 256 bytes, so there is no text that it cannot
encode. The algorithm stands first, written out; the class Tokenizer gives the same ids with the
library `tokenizers`, which is written in Rust. Beside BPE stands the simplest tokenizer of all, one
id per character. Both are kept in one file, tokenizer.json, which `transformers` loads as well.
Previous: loss.py.  Next: load_data.py.
"""

import codecs
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from tokenizers import Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Library

from cfg_gpt2 import require
from run_directory.files import write_whole
from run_directory.paths import require_file
from run_directory.train_bpe import train_bpe
from run_directory.vocabulary import (
    SETTINGS_FILE,
    TOKENIZER_FILE,
    end_tokens,
    library_errors,
    open_vocabulary,
    patterns_of,
    require_round_trip,
    silent_library,
    split_at_tokens,
    vocabulary_files,
    write_end_token,
)

END_OF_TEXT = "<|endoftext|>"

# From GPT-2's encoder.py. A word is the end of a contraction; or letters, numbers or other signs,
# with a space before them; or white space, without its last character where a word follows.
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

Word = tuple[bytes, ...]  # the tokens that a word consists of, each as its bytes
Pair = tuple[bytes, bytes]  # two neighbouring tokens of a word


def split_words(text: str) -> list[Word]:
    """Returns the words of a text, each as its UTF-8 bytes; no token reaches beyond a word."""
    # Python's own `re` has no \p{L}, the letters of all scripts, and no \p{N}, their numbers.
    words = pre_tokenizers.Split(Regex(GPT2_PATTERN), "isolated").pre_tokenize_str(text)
    return [tuple(bytes([byte]) for byte in word.encode()) for word, _ in words]


def merge_pair(word: Word, pair: Pair) -> Word:
    """Returns the word with every occurrence of the pair, from left to right, as one token."""
    merged: list[bytes] = []
    for token in word:
        if merged and (merged[-1], token) == pair:
            merged[-1] += token
        else:
            merged.append(token)
    return tuple(merged)


def learn_merges(texts: Iterable[str], vocab_size: int) -> tuple[dict[Pair, int], dict[bytes, int]]:
    """Trains BPE: counts the pairs of neighbouring tokens, merges the most frequent one, repeats.

    Returns the rank of each merged pair and the id of each token: the end of text, the 256 bytes
    and the merges. Of equally frequent pairs, the one with the smallest ids (first, second) comes
    first. Training ends with vocab_size tokens, or when no pair is left that occurs twice.

    >>> ranks, ids = learn_merges(["low low lower lowest"], vocab_size=260)
    >>> ranks
    {(b'l', b'o'): 0, (b'lo', b'w'): 1, (b' ', b'low'): 2}
    """
    words = Counter(word for text in texts for word in split_words(text))
    alphabet = [END_OF_TEXT.encode(), *(bytes([byte]) for byte in BYTE_OF_CHARACTER.values())]
    ids = {token: id for id, token in enumerate(alphabet)}
    ranks: dict[Pair, int] = {}
    while len(ids) < vocab_size:
        counts: Counter[Pair] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                counts[pair] += count
        best = min(counts, key=lambda p: (-counts[p], ids[p[0]], ids[p[1]]), default=None)
        if best is None or counts[best] < 2:
            break
        ranks[best] = len(ranks)
        ids.setdefault(b"".join(best), len(ids))
        words = Counter({merge_pair(word, best): count for word, count in words.items()})
    return ranks, ids


def encode_by_merges(text: str, ranks: dict[Pair, int], ids: dict[bytes, int]) -> list[int]:
    """Encodes a text by BPE: in each word, the pairs are merged in the order of their ranks.

    >>> ranks, ids = learn_merges(["low low lower lowest"], vocab_size=260)
    >>> tokens = list(ids)
    >>> [tokens[id] for id in encode_by_merges("slow lower", ranks, ids)]
    [b's', b'low', b' low', b'e', b'r']
    """
    encoded: list[int] = []
    for word in split_words(text):
        tokens = word
        while known := ranks.keys() & pairwise(tokens):
            tokens = merge_pair(tokens, min(known, key=ranks.__getitem__))
        encoded += [ids[token] for token in tokens]
    return encoded


class Tokenizer:
    """Converts text to ids and back, by BPE or by characters, on the library `tokenizers`.

    decode(encode(text)) is the text, whatever the text. What a user types never becomes the
    end-of-text token, not even the characters "<|endoftext|>", unless encode is asked for it.
    """

    def __init__(self, library: Library, end_of_text: str = END_OF_TEXT) -> None:
        """Wraps a tokenizer of the library; users call train, characters, from_gpt2 or load."""
        require(
            library.token_to_id(end_of_text) is not None,
            f"the vocabulary has no {end_of_text}; name the token that ends a text as "
            f'"eos_token" in a file {SETTINGS_FILE} beside it',
        )
        library.add_special_tokens([end_of_text])
        library.encode_special_tokens = True  # else a user could type the end of the text
        library.no_truncation()  # a tokenizer.json from elsewhere may ask for both
        library.no_padding()
        self._library = library
        by_character = isinstance(library.model, models.WordLevel)
        self._id_of_code_point = _code_point_table(library) if by_character else None
        self._has_patterns = bool(patterns_of(library))  # a stranger's, which may never end
        vocabulary = library.get_vocab()
        self.end_token = end_of_text  # as text; end_of_text is its id
        self.end_of_text: int = vocabulary[end_of_text]
        self.vocab_size: int = max(vocabulary.values()) + 1
        self._added = library.get_added_tokens_decoder()
        self.special_tokens = {
            token.content: id for id, token in self._added.items() if token.special
        }

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, on_wait: Callable[[], object] = lambda: None
    ) -> "Tokenizer":
        """Trains BPE as learn_merges does, to at most vocab_size tokens.

        The library holds 256 texts in memory at a time: give a long text in pieces. on_wait is
        called now and then where it takes long. Raises ValueError for a vocab_size that has no
        room for all bytes and the end of text.
        """
        require(
            vocab_size >= 257,
            f"vocab_size {vocab_size} must be at least 257: 256 bytes and {END_OF_TEXT}; try 1024",
        )
        return cls(train_bpe(texts, vocab_size, END_OF_TEXT, on_wait))

    @classmethod
    def characters(cls, texts: Iterable[str]) -> "Tokenizer":
        """Makes a tokenizer with id 0 for the end of text, then one id per code point of texts."""
        known: set[str] = set()
        for text in texts:
            known.update(text)
        vocabulary = {token: id for id, token in enumerate([END_OF_TEXT, *sorted(known)])}
        library = Library(models.WordLevel(vocabulary))
        library.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        library.decoder = decoders.Fuse()
        return cls(library)

    @classmethod
    def from_gpt2(cls, folder: str | Path, *, end_of_text: str | None = None) -> "Tokenizer":
        """Reads a vocabulary of the GPT-2 family in any of its three forms.

        end_of_text is the token that ends a text; None: the one that the settings beside the
        vocabulary name, else "<|endoftext|>". Raises FileNotFoundError when the folder has no
        vocabulary, ValueError for a broken one and for one that does not give back every text.
        """
        return cls._open(vocabulary_files(folder), end_of_text, probe=True)

    @classmethod
    def load(cls, run_dir: str | Path) -> "Tokenizer":
        """Reads run_dir/tokenizer.json; raises FileNotFoundError where there is none."""
        file = Path(run_dir) / TOKENIZER_FILE
        require_file(file, "name a run directory, such as runs/tiny")
        return cls._open([file])

    @classmethod
    def _open(
        cls, files: list[Path], end_of_text: str | None = None, *, probe: bool = False
    ) -> "Tokenizer":
        """Opens the one or two files of a vocabulary; raises ValueError if they cannot be used."""
        library = open_vocabulary(*files)
        named = [*end_tokens(files[0].parent), END_OF_TEXT]
        known = [end for end in named if library.token_to_id(end) is not None]
        try:
            tokenizer = cls(library, end_of_text or (known or named)[0])
            if probe:
                require_round_trip(library, tokenizer)
        except ValueError as error:
            raise ValueError(f"{files[0]} cannot be used: {error}") from None
        return tokenizer

    def save(self, run_dir: str | Path) -> None:
        """Writes run_dir/tokenizer.json, whole or not at all; beside it another end of text."""
        text = self.to_json()
        file = Path(run_dir) / TOKENIZER_FILE
        write_whole(file, lambda path: path.write_text(text, encoding="utf-8"))
        if [*end_tokens(file.parent), END_OF_TEXT][0] != self.end_token:
            write_end_token(file.parent, self.end_token)

    @property
    def is_by_character(self) -> bool:
        """Whether a token is a character, and no piece of byte-pair encoding."""
        return self._id_of_code_point is not None

    def to_json(self) -> str:
        """Returns the text of the file tokenizer.json."""
        return self._library.to_str(pretty=True)

    def encode(
        self, text: str, *, allow_end_of_text: bool = False, allow_special: bool = False
    ) -> list[int]:
        """Returns the ids of a text.

        allow_end_of_text reads "<|endoftext|>" in it as that token, allow_special every special
        token. Raises UnseenCharacter for a character that a character tokenizer lacks, ValueError
        for a surrogate.
        """
        if not (allow_special or allow_end_of_text):
            return self.encode_batch([text])[0]
        read = self.special_tokens.values() if allow_special else [self.end_of_text]
        pieces = split_at_tokens(text, {id: self._added[id] for id in read})
        encoded = ([piece] if isinstance(piece, int) else self.encode(piece) for piece in pieces)
        return list(chain.from_iterable(encoded))

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Returns the ids of each text; BPE uses all cores, best with many texts of some kB."""
        if self._id_of_code_point is not None:
            return [self._look_up(text, self._id_of_code_point) for text in texts]
        for text in texts:
            try:
                text.encode()  # fails on surrogates, which Python makes of bytes that are not UTF-8
            except UnicodeEncodeError as error:
                raise ValueError(
                    f"{text[error.start]!r} at position {error.start} of the text is a surrogate, "
                    "not a character; give the text as UTF-8"
                ) from None
        fails = library_errors("the tokenizer fails on the text", "take GPT-2's, or shorter words")
        with fails, silent_library() if self._has_patterns else nullcontext():
            encodings = self._library.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of the ids: the bytes of their tokens, joined and read as UTF-8.

        Bytes that are not UTF-8 become U+FFFD, the replacement character. The end-of-text token
        becomes "<|endoftext|>", so that the reader sees where a model ended a text.
        """
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    def decode_stream(self) -> "DecodeStream":
        """Returns a decoder that takes one id at a time."""
        return DecodeStream(self)

    def ids_without_token(self, n_ids: int) -> list[int]:
        """Returns the ids below n_ids that no token has, as those of a model with a padded size."""
        if self._library.get_vocab_size() == self.vocab_size == n_ids:
            return []
        return sorted({*range(n_ids)}.difference(self._library.get_vocab().values()))

    def token_bytes(self, id: int) -> bytes:
        """Returns the bytes that a token stands for, which may be only a part of a character.

        Raises ValueError for an id outside the vocabulary.
        """
        if added := self._added.get(id):
            return added.content.encode()  # literally, not in the alphabet of bytes
        token = self._library.id_to_token(id) if 0 <= id < self.vocab_size else None
        if token is None:
            raise ValueError(
                f"token id {id} is not in the vocabulary of {self.vocab_size} tokens; "
                "use the tokenizer that the model was trained with"
            )
        if self._id_of_code_point is not None or not BYTE_OF_CHARACTER.keys() >= set(token):
            return token.encode()
        return bytes(BYTE_OF_CHARACTER[character] for character in token)

    def _look_up(self, text: str, table: np.ndarray) -> list[int]:
        """Encodes by characters with one look-up in NumPy, 40 times as fast as the library."""
        code_points = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")
        ids = table[code_points]
        if len(ids) and ids.min() < 0:
            raise UnseenCharacter(text, int(np.argmax(ids < 0)), self.vocab_size - 1)
        return ids.tolist()


class DecodeStream:
    """Decodes ids one at a time, and holds back the bytes of a character until it is complete.

    The pieces of text, joined, are what Tokenizer.decode returns for all ids.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def step(self, id: int) -> str:
        """Returns the text that the next id completes, "" while a character is incomplete."""
        return self._utf8.decode(self._tokenizer.token_bytes(id))

    def finish(self) -> str:
        """Returns U+FFFD when the ids have ended within a character, else ""."""
        return self._utf8.decode(b"", final=True)


class UnseenCharacter(ValueError):
    """Raised when a character tokenizer has no id for a character of a text."""

    def __init__(
        self, text: str, index: int, n_known: int, start: int = 0, where: str = "the text"
    ) -> None:
        self.text, self.index, self.n_known = text, index, n_known
        super().__init__(
            f"{text[index]!r} (U+{ord(text[index]):04X}) at position {start + index} of {where} "
            f"is not among the {n_known} characters of this tokenizer; leave it out, or train on "
            "a text that has it, or with --data.tokenizer bpe, which can write any text"
        )

    def within(self, start: int, where: str) -> "UnseenCharacter":
        """Returns this error for a text that begins at character `start` of a larger one."""
        return UnseenCharacter(self.text, self.index, self.n_known, start, where)


def _bytes_by_character() -> dict[str, int]:
    """Returns GPT-2's alphabet: the 256 bytes, each under the character that the files show for it.

    Printable Latin-1 bytes are shown as themselves, the other 68 as U+0100 and on in their order:
    the space, byte 32, is "Ġ". So a file can be read, and no token has white space in it. The
    order of the alphabet is also the order of the ids that single bytes have.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    characters = map(chr, [*visible, *range(0x100, 0x100 + len(hidden))])
    return dict(zip(characters, visible + hidden, strict=True))


BYTE_OF_CHARACTER = _bytes_by_character()


def _code_point_table(library: Library) -> np.ndarray:
    """Returns the id of each Unicode code point, -1 for one that the tokenizer does not know."""
    table = np.full(0x110000, -1, dtype=np.int32)
    for token, id in library.get_vocab(with_added_tokens=False).items():
        if token != END_OF_TEXT:
            require(len(token) == 1, f"its token {token!r} is a word; take one of characters")
            table[ord(token)] = id
    return table
