"""The user's text files: which ones a path names, how they are split, and their text.

Files are read in chunks, never whole, so a file may be larger than memory.
Previous: tiny_world/stories.py.  Next: stream.py.
"""

import codecs
import glob
import io
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cfg_gpt2 import require
from data.tiny_world.stories import LANGUAGES

SUFFIXES = (".txt", ".md")
CHUNK_BYTES = 1 << 16  # bytes of a file that are decoded, and then encoded, at a time
MAX_WORD_CHARACTERS = 1 << 20  # a longer word is cut, to bound memory
MANY_FILES = 20  # from this number on, whole files are kept for validation
MAX_VALIDATION_BYTES = 10_000_000  # where no share is asked for: every evaluation reads all of it

_UP_TO_LAST_WORD = re.compile(r".*\S(?=[ \n])", re.DOTALL)


class Span(NamedTuple):
    """The part of a file, in bytes, that belongs to a split."""

    path: Path
    start: int
    stop: int


def expand(path: str) -> list[Path]:
    """Returns the files that a path of the command line names: a file, a glob or a folder.

    A folder stands for its .txt and .md files at any depth, without hidden ones.
    Raises FileNotFoundError where there is none.
    """
    named = Path(path).expanduser()
    if named.is_file():
        return [named]
    if named.is_dir():
        files = [file for file in sorted(named.rglob("*")) if file.suffix.lower() in SUFFIXES]
        inside = {file: "/" + file.relative_to(named).as_posix() for file in files}
        files = [file for file in files if file.is_file() and "/." not in inside[file]]
        if not files:
            kinds = " or ".join(f"*{suffix}" for suffix in SUFFIXES)
            raise FileNotFoundError(f"{path} has no {kinds} at any depth; name files or a glob")
        return files
    matches = sorted(glob.glob(str(named), recursive=True))
    if not matches:
        known = ", ".join(LANGUAGES)
        raise FileNotFoundError(f"{path} does not exist; name text files, folders, globs, {known}")
    return [file for match in matches for file in expand(match)]


def file_sizes(paths: Iterable[str]) -> dict[Path, int]:
    """Returns the files that the paths name, each once, with their sizes in bytes.

    Raises FileNotFoundError for a path that names no file, and ValueError for an empty file.
    """
    named = [file.resolve() for path in paths for file in expand(path)]
    files = {file: file.stat().st_size for file in named}
    for file, size in files.items():
        require(size > 0, f"{file} is empty; give it some text, or leave it out")
    return files


def fingerprint(file: Path) -> list[str | int]:
    """Returns what tells a changed file from the same one: its path, size and time of change."""
    status = file.stat()
    return [str(file.resolve()), status.st_size, status.st_mtime_ns]


def split_files(files: dict[Path, int], share: float) -> dict[str, list[Span]]:
    """Splits files, given with their sizes; `share` of their bytes is for validation.

    Of fewer than MANY_FILES files the end of each is for validation, of more some whole files,
    drawn at random and the same in every call. At least one file stays for training.
    """
    if len(files) < MANY_FILES:
        cuts = {file: next_character(file, int(size * (1 - share))) for file, size in files.items()}
    else:
        cuts = dict(files)  # all of a file is for training, or nothing
        missing = share * sum(files.values())
        for file in random.Random(0).sample(list(files), len(files) - 1):
            if missing > 0:
                missing -= files[file]
                cuts[file] = 0
    ends = [Span(file, cuts[file], size) for file, size in files.items() if cuts[file] < size]
    return {
        "train": [Span(file, 0, cut) for file, cut in cuts.items() if cut > 0],
        "validation": ends,
    }


def next_character(file: Path, offset: int) -> int:
    """Returns the first offset, from the given one on, at which a UTF-8 character begins."""
    with file.open("rb") as text:
        text.seek(offset)
        rest = text.read(3)
    return offset + len(rest) - len(rest.lstrip(bytes(range(0x80, 0xC0))))


def read_span(
    span: Span,
    chunk_bytes: int = CHUNK_BYTES,
    max_word_characters: int = MAX_WORD_CHARACTERS,
) -> Iterator[str]:
    """Yields the text of a span in chunks of about chunk_bytes, without a byte order mark, and
    with newlines as line ends.

    Encoding the chunks gives the tokens of the whole text. They end after a character that is not
    white space and before a space or newline, and GPT-2's pattern makes no word across that
    place: a word may begin with white space, but after anything else it has none.
    Raises ValueError, with the offset in the file, for bytes that are not UTF-8.
    """
    encoding = "utf-8" if span.start else "utf-8-sig"
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), True)
    text, offset = "", span.start
    with span.path.open("rb") as file:
        file.seek(offset)
        while offset < span.stop:
            data = file.read(min(chunk_bytes, span.stop - offset))
            require(len(data) > 0, f"{span.path} has become shorter; start again")
            if b"\0" in data:
                raise not_utf8(span.path, offset + data.index(b"\0"))
            offset += len(data)
            try:
                text += decoder.decode(data, final=offset == span.stop)
            except UnicodeDecodeError as error:
                raise not_utf8(span.path, offset - len(error.object) + error.start) from None
            is_end = offset == span.stop
            cut = len(text) if is_end else last_word_boundary(text, max_word_characters)
            if cut:
                yield text[:cut]
                text = text[cut:]


def last_word_boundary(text: str, max_word_characters: int = MAX_WORD_CHARACTERS) -> int:
    """Returns the last position after a visible character and before a space or newline.

    For a text that has none the result is 0, and its length where it is longer than
    max_word_characters: a word of that length is cut.
    """
    if found := _UP_TO_LAST_WORD.match(text):
        return found.end()
    return len(text) if len(text) > max_word_characters else 0


def not_utf8(path: Path, offset: int) -> ValueError:
    """Returns the error that names the first byte of a file that is not UTF-8, and a remedy."""
    with path.open("rb") as file:
        head = file.read(2)
        file.seek(offset)
        byte = file.read(1)
    utf16 = byte == b"\0" or head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    guess = "UTF-16" if utf16 else "CP1251"
    return ValueError(
        f"{path} is not UTF-8 text: byte 0x{byte.hex()} at offset {offset}; if it is {guess}, "
        f"convert it with iconv -f {guess} -t UTF-8 {path.name} > utf8.txt"
    )
