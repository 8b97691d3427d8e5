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
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

from cfg_gpt2 import require
from run_directory.files import write_whole

END_OF_TEXT = "<|endoftext|>"
TOKENIZER_FILE = "tokenizer.json"
VOCABULARIES = ((TOKENIZER_FILE,), ("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))

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
    """Text to ids and back, by BPE or by characters.

    decode(encode(text)) is the text, whatever the text. What a user types never becomes the
    end-of-text token, not even the characters "<|endoftext|>", unless encode is asked for it.
    """

    def __init__(self, library: Library) -> None:
        """Wraps a tokenizer of the library; users call train, characters, from_gpt2 or load."""
        require(
            library.token_to_id(END_OF_TEXT) is not None,
            f"the vocabulary has no {END_OF_TEXT}; take one of the GPT-2 family, or train your own",
        )
        library.add_special_tokens([END_OF_TEXT])
        library.encode_special_tokens = True  # else a user could type the end of the text
        library.no_truncation()  # a foreign tokenizer.json may carry both
        library.no_padding()
        self._library = library
        self._by_character = isinstance(library.model, models.WordLevel)
        self._ids_of_characters = _table_of(library) if self._by_character else None
        vocabulary = library.get_vocab()
        self.end_of_text: int = vocabulary[END_OF_TEXT]
        self.vocab_size: int = max(vocabulary.values()) + 1

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """BPE with at most vocab_size tokens: 256 bytes, the end of text, and merges.

        Merging stops early when no pair of tokens is left that occurs twice. The library
        holds 256 texts at a time: give a long text in pieces. The same texts give the same ids.
        """
        require(
            vocab_size >= 257,
            f"vocab_size {vocab_size} must be at least 257: 256 bytes and {END_OF_TEXT}; try 1024",
        )
        library = _byte_level(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            initial_alphabet=sorted(BYTE_OF_CHARACTER),
            special_tokens=[END_OF_TEXT],
            show_progress=False,
        )
        library.train_from_iterator(texts, trainer)
        return cls(library)

    @classmethod
    def characters(cls, texts: Iterable[str]) -> "Tokenizer":
        """One id for every character (code point) of the texts, and one for the end of text."""
        seen: set[str] = set()
        for text in texts:
            seen.update(text)
        vocabulary = {token: id for id, token in enumerate([END_OF_TEXT, *sorted(seen)])}
        library = Library(models.WordLevel(vocabulary))
        library.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        library.decoder = decoders.Fuse()
        return cls(library)

    @classmethod
    def from_gpt2(cls, folder: str | Path) -> "Tokenizer":
        """A ready vocabulary: tokenizer.json, vocab.json + merges.txt or encoder.json + vocab.bpe.

        Raises FileNotFoundError when the folder has none of them, ValueError for a broken one.
        """
        files = vocabulary_files(folder)
        if len(files) == 1:
            return _open(files[0], lambda: Library.from_str(files[0].read_text(encoding="utf-8")))
        vocabulary, merges = map(str, files)
        return _open(files[0], lambda: _byte_level(models.BPE.from_file(vocabulary, merges)))

    @classmethod
    def load(cls, run_dir: str | Path) -> "Tokenizer":
        """Reads run_dir/tokenizer.json, which save has written."""
        file = Path(run_dir) / TOKENIZER_FILE
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} does not exist; name a run directory, such as runs/tiny"
            )
        return _open(file, lambda: Library.from_str(file.read_text(encoding="utf-8")))

    def save(self, run_dir: str | Path) -> None:
        """Writes run_dir/tokenizer.json, whole or not at all."""
        text = self.to_json()
        file = Path(run_dir) / TOKENIZER_FILE
        write_whole(file, lambda path: path.write_text(text, encoding="utf-8"))

    def to_json(self) -> str:
        """What stands in tokenizer.json."""
        return self._library.to_str(pretty=True)

    def encode(self, text: str, *, allow_end_of_text: bool = False) -> list[int]:
        """The ids of a text; with allow_end_of_text, "<|endoftext|>" in it is the one token.

        Raises ValueError for a character that a character tokenizer has never seen.
        """
        if not allow_end_of_text:
            return self.encode_batch([text])[0]
        first, *others = self.encode_batch(text.split(END_OF_TEXT))
        return first + [id for piece in others for id in (self.end_of_text, *piece)]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text, on all cores; many texts of some kilobytes go fastest."""
        if self._ids_of_characters is not None:
            return [self._look_up(text) for text in texts]
        for text in texts:
            _refuse_surrogates(text)
        encodings = self._library.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids. Bytes that are no UTF-8 become U+FFFD, the replacement character.

        The end-of-text token is written out as "<|endoftext|>": what a model produced can be seen.
        """
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    def decode_stream(self) -> "DecodeStream":
        """A decoder that is fed one id at a time."""
        return DecodeStream(self)

    def token_bytes(self, id: int) -> bytes:
        """The bytes that a token stands for; they may be a part of a character.

        Raises ValueError for an id outside the vocabulary.
        """
        token = self._library.id_to_token(id) if 0 <= id < self.vocab_size else None
        if token is None:
            raise ValueError(
                f"token id {id} is not in the vocabulary of {self.vocab_size} tokens; "
                "use the tokenizer that the model was trained with"
            )
        if self._by_character or not BYTE_OF_CHARACTER.keys() >= set(token):
            return token.encode()
        return bytes(BYTE_OF_CHARACTER[character] for character in token)

    def _look_up(self, text: str) -> list[int]:
        """encode for characters: one numpy look-up, 40 times as fast as the library's way."""
        assert self._ids_of_characters is not None
        codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")
        ids = self._ids_of_characters[codes]
        if len(ids) and ids.min() < 0:
            raise UnseenCharacter(text, int(np.argmax(ids < 0)), self.vocab_size - 1)
        return ids.tolist()


class DecodeStream:
    """Decodes ids one by one and holds back the bytes of a character until it is whole.

    All pieces together are what decode gives for all ids.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def step(self, id: int) -> str:
        """The text that one more id completes; "" while a character is unfinished."""
        return self._utf8.decode(self._tokenizer.token_bytes(id))

    def finish(self) -> str:
        """U+FFFD when the ids have ended within a character, else ""."""
        return self._utf8.decode(b"", final=True)


class UnseenCharacter(ValueError):
    """A character tokenizer met a character that it has no id for."""

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
        """The same, of a text that begins at character `start` of a larger one."""
        return UnseenCharacter(self.text, self.index, self.n_known, start, where)


def vocabulary_files(folder: str | Path) -> list[Path]:
    """The one or two files that from_gpt2 reads in a folder."""
    folder = Path(folder).expanduser()
    for names in VOCABULARIES:
        files = [folder / name for name in names]
        if all(file.is_file() for file in files):
            return files
    known = ", ".join(" + ".join(names) for names in VOCABULARIES)
    what = "has no vocabulary" if folder.is_dir() else "is not a folder"
    raise FileNotFoundError(f"{folder} {what}; name a folder with one of: {known}")


def _bytes_by_character() -> dict[str, int]:
    """GPT-2's alphabet: the visible character under which each byte stands in a vocabulary.

    Printable Latin-1 bytes stand for themselves, the other 68 for U+0100 and on in their order:
    the space, byte 32, is "Ġ". So a vocabulary can be read, and no token has white space in it.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    shown = {chr(byte): byte for byte in visible}
    return shown | {chr(0x100 + rank): byte for rank, byte in enumerate(hidden)}


BYTE_OF_CHARACTER = _bytes_by_character()


def _byte_level(model: models.BPE) -> Library:
    """A library tokenizer with GPT-2's word pattern and alphabet."""
    library = Library(model)
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    library.decoder = decoders.ByteLevel()
    return library


def _table_of(library: Library) -> np.ndarray:
    """The id of every code point, -1 where there is none; one entry for each of Unicode's."""
    table = np.full(0x110000, -1, dtype=np.int32)
    for token, id in library.get_vocab(with_added_tokens=False).items():
        if token != END_OF_TEXT:
            require(
                len(token) == 1,
                f"{token!r} is a word; only characters and byte-level BPE fit",
            )
            table[ord(token)] = id
    return table


def _open(file: Path, read: Callable[[], Library]) -> Tokenizer:
    """A tokenizer out of files, or ValueError with their name."""
    try:
        library = read()
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  the library raises nothing more specific
        raise ValueError(f"{file} is not a vocabulary: {error}; copy it once more") from None
    require(
        isinstance(library.decoder, decoders.ByteLevel | decoders.Fuse),
        f"{file} is neither byte-level BPE nor one of characters; take GPT-2's",
    )
    try:
        return Tokenizer(library)
    except ValueError as error:
        raise ValueError(f"{file} cannot be used: {error}") from None


def _refuse_surrogates(text: str) -> None:
    """The library takes no surrogates; Python makes one of a typed byte that is no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{text[error.start]!r} at position {error.start} of the text is a surrogate, "
            "not a character; give the text as UTF-8"
        ) from None
