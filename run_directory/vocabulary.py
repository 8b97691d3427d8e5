"""Opening the vocabulary of a tokenizer, and refusing one that does not give back every text.

    tokenizer.json, or vocab.json and merges.txt  ->  a tokenizer of the library `tokenizers`

The library also has parts that change text: they write it in lower case, drop its spaces or leave
out the bytes that they lack. Bits per byte of such a tokenizer compare with nothing, so it is
refused by the name of that part. Two kinds give back every text that they can encode: BPE on the
256 bytes, and one token per character, both made of LOSSLESS_PARTS only.
Previous: ../loss.py.  Next: train_bpe.py.
"""

import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Protocol

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Library

from cfg_gpt2 import require
from run_directory.files import write_whole
from run_directory.json_file import read_json_object, shortened
from run_directory.paths import user_path

TOKENIZER_FILE = "tokenizer.json"
VOCABULARIES = ((TOKENIZER_FILE,), ("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
SETTINGS_FILE = "tokenizer_config.json"  # of transformers; names the token that ends a text
SETTINGS_FILES = (SETTINGS_FILE, "special_tokens_map.json")

LOSSLESS_PARTS = {  # of each kind of model; no part of another type keeps every text
    "BPE": {
        "normalizer": {"ByteLevel"},
        "pre-tokenizer": {"ByteLevel", "Digits", "FixedLength", "Punctuation", "Split"},
        "decoder": {"ByteLevel", "Fuse"},
    },
    "WordLevel": {
        "normalizer": set[str](),
        "pre-tokenizer": {"FixedLength", "Split"},
        "decoder": {"Fuse"},
    },
}
GPT2S = "take one of byte-level BPE, such as GPT-2's"
PREFIX = "continuing_subword_prefix"
MAX_GAP = 100_000  # ids without a token; some models leave them for tokens to come
MAX_SECONDS = 0.3  # for a word of 2,048 characters, on which GPT-2's pattern takes 20 microseconds

PROBES = (  # they have every byte that UTF-8 has
    "".join(map(chr, range(0x250))),
    "".join(map(chr, [*range(0x250, 0x800, 0x25), *range(0x800, 0xD800, 0x1F3)])),
    "".join(map(chr, range(0xE000, 0x110000, 0xF83))),
    "The Fox ASKED: It's 12,345.67 or ½ -- wasn't it?",
    " a  b   c    d  ",
    "\n\n\n a\r\n\tb\t\t\r \u00a0\u2028\u3000\u200b\ufeff",
    "e\u0301\u0308 \u00e9 \u1e69 \u212b \u2460 \ufb01 \uff76\uff9e \u0130\u0131 \u1100\u1161",
    "Где «барабан»? В сарае… 狐狸问鼓在哪里。ドラム 북 حصان घोड़ा",
    "🙂🦊👩🏽\u200d🚀🇷🇺 ☺\ufe0f",
    *(character * 300 for character in "aЯ \n-0字🙂"),
    "▁ Ġ Ċ ## @@ </w> <unk> [UNK] <0x0A> <s> \\n",
)

Part = normalizers.Normalizer | pre_tokenizers.PreTokenizer | decoders.Decoder


class Codec(Protocol):
    """What is proven to lose nothing: ../tokenizer.py's Tokenizer."""

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Returns the ids of each text."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of the ids."""
        ...


def vocabulary_files(folder: str | Path) -> list[Path]:
    """Returns the one or two files of a folder that hold a vocabulary, as open_vocabulary reads it.

    Raises FileNotFoundError where it has none.
    """
    folder = user_path(folder, "--data.tokenizer")
    for names in VOCABULARIES:
        files = [folder / name for name in names]
        if all(file.is_file() for file in files):
            return files
    known = ", ".join(" + ".join(names) for names in VOCABULARIES)
    what = "has no vocabulary" if folder.is_dir() else "is not a folder"
    raise FileNotFoundError(f"{folder} {what}; name a folder with one of: {known}")


def byte_level(model: models.BPE) -> Library:
    """Returns a tokenizer of the library with GPT-2's word pattern and alphabet of bytes."""
    library = Library(model)
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    library.decoder = decoders.ByteLevel()
    return library


def open_vocabulary(file: Path, merges: Path | None = None) -> Library:
    """Opens a tokenizer.json, or a vocabulary beside its merges.

    Raises ValueError for a broken one, and for one that is made to change text.
    """
    advice = (f"{file} is not a vocabulary", "copy it once more")
    with library_errors(*advice):
        text = file.read_text(encoding="utf-8-sig") if merges is None else ""
    if mark := prefix_of_pieces(text):
        raise ValueError(f"{file} cannot be used: {loss_by_mark(mark, PREFIX)}")
    with library_errors(*advice):
        if merges is None:
            library = Library.from_str(text)
        else:
            library = byte_level(models.BPE.from_file(str(file), str(merges)))
    for loss in losses(library):
        raise ValueError(f"{file} cannot be used: {loss}")
    return library


def prefix_of_pieces(text: str) -> str:
    """Returns what a BPE in a tokenizer.json writes before the pieces within a word, or "".

    Where it cuts a merge within a character, the library ends the whole process as it reads it.
    """
    if not re.search(rf'"{PREFIX}"\s*:\s*"[^"]', text):  # it is parsed only where it may matter
        return ""
    try:
        model = json.loads(text)["model"]
        return str(model.get(PREFIX) or "") if model.get("type") == "BPE" else ""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""  # the library says what is wrong


def loss_by_mark(mark: str, name: str) -> str:
    """Returns why a BPE with a mark at the edge of its tokens is not used."""
    return f"its BPE writes {shortened(mark)!r} ({name}) into the text; {GPT2S}"


@contextmanager
def library_errors(wrong: str, advice: str) -> Iterator[None]:
    """Raises ValueError where the library fails, which raises nothing more specific than Exception.

    A panic of its Rust code is a BaseException, of a class that has no public name.
    """
    try:
        yield
    except OSError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"{wrong}: {' '.join(str(error).split())[:300]}; {advice}") from None


def end_tokens(folder: Path) -> list[str]:
    """Returns the tokens that the settings beside a vocabulary name as the end of a text.

    Raises ValueError where the settings are no JSON object.
    """
    named: list[str] = []
    for file in (folder / name for name in SETTINGS_FILES):
        if not file.is_file():
            continue
        token = read_json_object(file).get("eos_token")
        content = token.get("content") if isinstance(token, dict) else token
        named += [content] if isinstance(content, str) else []
    return named


def write_end_token(folder: Path, token: str) -> None:
    """Writes the token that ends a text into settings that transformers reads as well."""
    text = json.dumps({"eos_token": token}, ensure_ascii=False, indent=2) + "\n"
    write_whole(folder / SETTINGS_FILE, lambda part: part.write_text(text, encoding="utf-8"))


def split_at_tokens(text: str, tokens: dict[int, AddedToken]) -> Iterator[str | int]:
    """Yields a text in pieces: the ids of the tokens that stand in it, and the text between them.

    Of two tokens that begin at one place the longer one is read, as in the library.
    """
    ids = sorted(tokens, key=lambda id: len(tokens[id].content), reverse=True)
    pattern = "|".join(f"({pattern_of_token(tokens[id])})" for id in ids)
    start = 0
    for match in re.finditer(pattern, text):
        assert match.lastindex
        yield text[start : match.start()]
        yield ids[match.lastindex - 1]
        start = match.end()
    yield text[start:]


def pattern_of_token(token: AddedToken) -> str:
    """Returns a regular expression for the places of a text at which the library finds a token."""
    pattern = re.escape(token.content)
    if token.single_word:
        pattern = rf"(?<!\w){pattern}(?!\w)"
    return (r"\s*" if token.lstrip else "") + pattern + (r"\s*" if token.rstrip else "")


def losses(library: Library) -> Iterator[str]:
    """Yields what in a tokenizer loses or changes text, each with what to do about it."""
    kind = type(library.model).__name__
    if kind not in LOSSLESS_PARTS:
        yield f"its model is {kind}, which loses text; {GPT2S}"
        return
    parts = {
        "normalizer": parts_of(library.normalizer),
        "pre-tokenizer": parts_of(library.pre_tokenizer),
        "decoder": parts_of(library.decoder),
    }
    for place, found in parts.items():
        for part in found:
            name = f"its {place} {part['type']}"
            if part["type"] not in LOSSLESS_PARTS[kind][place]:
                remedy = 'set "normalizer" to null in it' if place == "normalizer" else GPT2S
                yield f"{name} does not give back every text; {remedy}"
            if part.get("behavior") == "Removed":
                yield f"{name} removes what it splits at; {GPT2S}"
            if part.get("add_prefix_space") and place == "pre-tokenizer":
                wrong = "makes 'a' and ' a' the same"
                yield f'{name} {wrong}; set "add_prefix_space" to false in it'
    if isinstance(library.model, models.BPE):
        yield from losses_of_bpe(library, library.model, parts)
    yield from losses_of_added_tokens(library)


def parts_of(part: Part | None) -> list[dict]:
    """Returns the settings of a part of a tokenizer, or of all parts of a sequence."""

    def flatten(settings: dict) -> Iterator[dict]:
        if settings["type"] != "Sequence":
            yield settings
            return
        for inner in next(value for value in settings.values() if isinstance(value, list)):
            yield from flatten(inner)

    return [] if part is None else list(flatten(json.loads(part.__getstate__())))


def losses_of_bpe(
    library: Library, model: models.BPE, parts: dict[str, list[dict]]
) -> Iterator[str]:
    """Yields what in a BPE keeps it from giving back all bytes, and always with the same ids."""
    if model.dropout:
        yield (
            f"its BPE has dropout {model.dropout:g}, so one text gets other ids each time; "
            'set "dropout" to null in it'
        )
    for name in (PREFIX, "end_of_word_suffix"):
        if mark := getattr(model, name):
            yield loss_by_mark(mark, name)
    steps = [part["type"] for part in parts["normalizer"] + parts["pre-tokenizer"]]
    if (count := steps.count("ByteLevel")) != 1:
        what = "twice" if count else "nowhere, so that it drops the characters that it lacks"
        yield f"it turns text into bytes (ByteLevel) {what}; {GPT2S}"
    missing = {c for c in pre_tokenizers.ByteLevel.alphabet() if model.token_to_id(c) is None}
    if missing & in_bytes("".join(PROBES)):  # UTF-8 has no bytes 0xC0, 0xC1 and 0xF5 to 0xFF
        becomes = f"become {model.unk_token}" if model.unk_token else "are dropped"
        has_marks = any(token.endswith("</w>") for token in library.get_vocab())
        marks = "; its tokens are letters with </w>" if has_marks else ""
        yield f"it lacks {len(missing)} of the 256 bytes, which {becomes}{marks}; {GPT2S}"


def in_bytes(text: str) -> set[str]:
    """Returns the bytes of a text, each as the character that stands for it in a vocabulary."""
    words = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    return {character for word, _ in words for character in word}


def losses_of_added_tokens(library: Library) -> Iterator[str]:
    """Yields which added tokens do not come back as the text that they were found in."""
    is_bpe = isinstance(library.model, models.BPE)
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    for token in library.get_added_tokens_decoder().values():
        name = f"its added token {token.content!r}"
        if (token.lstrip or token.rstrip) and not token.special:
            yield f'{name} takes white space in; set "lstrip" and "rstrip" to false in it'
        known = is_bpe and library.model.token_to_id(token.content) is not None
        if known and not token.content.isascii() and alphabet.issuperset(token.content):
            yield f"{name} is a token of other bytes, too; {GPT2S}"


def require_dense_ids(library: Library) -> None:
    """Raises ValueError where ids are repeated, or far apart: the library needs memory for each."""
    ids = library.get_vocab().values()
    require(len(set(ids)) == len(ids), f"two of its tokens have one id; {GPT2S}")
    gap = f"it has {len(ids):,} tokens, but ids up to {max(ids):,}; {GPT2S}"
    require(max(ids) < 2 * len(ids) + MAX_GAP, gap)


def require_round_trip(library: Library, codec: Codec) -> None:
    """Raises ValueError unless probing texts come back whole from the vocabulary of a stranger.

    Typed text must not become a special token either, and look-up by characters must give the
    library's ids.
    """
    require_dense_ids(library)
    added = library.get_added_tokens_decoder()
    special = {id: token.content for id, token in added.items() if token.special}
    texts = [*PROBES, *(f"a{token.content}b {token.content} c" for token in added.values())]
    with silent_library():
        require_fast_patterns(library)
        if isinstance(library.model, models.WordLevel):
            texts = own_characters(library, codec)
        encoded = codec.encode_batch(texts)
    for text, written in zip(texts, encoded, strict=True):
        back = codec.decode(written)
        if text != back:
            raise ValueError(f"it loses text: {first_difference(text, back)}; {GPT2S}")
        typed = special.keys() & written
        names = ", ".join(special[id] for id in typed)
        require(not typed, f"typed text becomes its special token {names}; {GPT2S}")


def own_characters(library: Library, codec: Codec) -> list[str]:
    """Returns two texts of all characters that a tokenizer of characters has.

    Raises ValueError where the library does not give each of them its own id.
    """
    characters = sorted(token for token in library.get_vocab() if len(token) == 1)
    texts = ["".join(characters), "".join(character * 2 for character in characters)]
    with library_errors("it fails on its own characters", GPT2S):
        theirs = [library.encode(text, add_special_tokens=False).ids for text in texts]
    agree = theirs == codec.encode_batch(texts)
    require(agree, f"it does not give each character its own id; {GPT2S}")
    return texts


def first_difference(text: str, back: str) -> str:
    """Returns where a text and what came back of it differ first, as a phrase."""
    pairs = enumerate(zip_longest(text, back))
    place = next(place for place, (typed, written) in pairs if typed != written)
    return f"{text[place : place + 20]!r} comes back as {back[place : place + 20]!r}"


def patterns_of(library: Library) -> list[str]:
    """Returns the regular expressions at which a tokenizer splits text, beside GPT-2's own."""
    parts = parts_of(library.pre_tokenizer)
    return [part["pattern"]["Regex"] for part in parts if "Regex" in part.get("pattern", {})]


def require_fast_patterns(library: Library) -> None:
    """Raises ValueError for a pattern of words on which the library gives up, or all but does.

    A regular expression such as (a|aa)+$ tries every way to divide a run of letters.
    """
    for pattern in patterns_of(library):
        refused = f"its pattern {pattern[:80]!r} takes too long on long words"
        splitter = pre_tokenizers.Split(Regex(pattern), "isolated")
        runs = (c * 2**n for c in dict.fromkeys(pattern + "a1 \n") for n in range(4, 12))
        with library_errors(refused, GPT2S):
            for run in runs:
                started = time.thread_time()
                splitter.pre_tokenize_str(f"{run}!\0")
                seconds = time.thread_time() - started
                require(seconds < MAX_SECONDS, f"{seconds:.1f} s for {len(run):,} characters")


@contextmanager
def silent_library() -> Iterator[None]:
    """Keeps the library's Rust code from writing about its panics to standard error by itself."""
    try:
        kept = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
