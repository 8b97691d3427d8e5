"""The user's text files: which ones a path names, what of each is for validation, their text.

Bytes are read, never whole files, so a file may be larger than memory.
Previous: README.md.  Next: ../load_data.py.
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
PIECE = 1 << 16  # bytes of a file that are decoded, and then encoded, at a time
LONGEST_WORD = 1 << 20  # characters; a longer one is cut, to bound memory
MANY = 20  # files; from here on whole files are kept for validation
MOST_VALIDATION = 10_000_000  # bytes, where no share is asked for: it is read at every evaluation


class Span(NamedTuple):
    """The part of a file, in bytes, that belongs to a split."""

    path: Path
    start: int
    stop: int


def expand(path: str) -> list[Path]:
    """The files that a path of the command line names: a file, a glob's, or those in a folder.

    A folder means its .txt and .md files at any depth, without hidden ones.
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


def sizes(paths: Iterable[str]) -> dict[Path, int]:
    """The files that the paths name, each once, and how many bytes each has. None is empty."""
    named = [file.resolve() for path in paths for file in expand(path)]
    files = {file: file.stat().st_size for file in named}
    for file, size in files.items():
        require(size > 0, f"{file} is empty; give it some text, or leave it out")
    return files


def stamp(file: Path) -> list:
    """What changes when a file does."""
    status = file.stat()
    return [str(file.resolve()), status.st_size, status.st_mtime_ns]


def split_files(files: dict[Path, int], share: float) -> dict[str, list[Span]]:
    """Both splits of files with sizes. Many: some whole ones, at random. Few: the end of each."""
    if len(files) < MANY:
        cuts = {file: character_at(file, int(size * (1 - share))) for file, size in files.items()}
    else:
        cuts = dict(files)  # all of a file is for training, or nothing
        wanted = share * sum(files.values())
        for file in random.Random(0).sample(list(files), len(files) - 1):  # one stays, always
            if wanted > 0:
                wanted -= files[file]
                cuts[file] = 0
    return {
        "train": [Span(file, 0, cut) for file, cut in cuts.items() if cut > 0],
        "validation": [Span(file, cuts[file], size) for file, size in files.items()
                       if cuts[file] < size],
    }  # fmt: skip


def character_at(file: Path, offset: int) -> int:
    """The first offset from here on at which a character begins."""
    with file.open("rb") as text:
        text.seek(offset)
        rest = text.read(3)
    return offset + len(rest) - len(rest.lstrip(bytes(range(0x80, 0xC0))))


def read_span(span: Span) -> Iterator[str]:
    """The text of a span in pieces of about PIECE bytes, without BOM, line ends as newlines.

    Encoding the pieces gives the tokens of the whole. They end after a character that is not
    white space and before a space or newline, and GPT-2's pattern makes no word across that
    border: a word may begin with white space, but after anything else it has none.
    """
    encoding = "utf-8" if span.start else "utf-8-sig"
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), True)
    held, here = "", span.start
    with span.path.open("rb") as file:
        file.seek(here)
        while here < span.stop:
            data = file.read(min(PIECE, span.stop - here))
            require(len(data) > 0, f"{span.path} has become shorter; start again")
            if b"\0" in data:
                raise not_utf8(span.path, here + data.index(b"\0"))
            here += len(data)
            try:
                held += decoder.decode(data, final=here == span.stop)
            except UnicodeDecodeError as error:
                raise not_utf8(span.path, here - len(error.object) + error.start) from None
            cut = len(held) if here == span.stop else word_border(held)
            if cut:
                yield held[:cut]
                held = held[cut:]


_UP_TO_LAST_WORD = re.compile(r".*\S(?=[ \n])", re.DOTALL)


def word_border(text: str) -> int:
    """The last place after something else and before white space; 0 where there is none."""
    if found := _UP_TO_LAST_WORD.match(text):
        return found.end()
    return len(text) if len(text) > LONGEST_WORD else 0


def not_utf8(path: Path, offset: int) -> ValueError:
    """Says where a file is no UTF-8 text, and what it may be."""
    with path.open("rb") as file:
        head = file.read(2)
        file.seek(offset)
        byte = file.read(1)
    utf16 = byte == b"\0" or head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    likely = "UTF-16" if utf16 else "CP1251"
    return ValueError(
        f"{path} is not UTF-8 text: byte 0x{byte.hex()} at offset {offset}; if it is {likely}, "
        f"convert it with iconv -f {likely} -t UTF-8 {path.name} > utf8.txt"
    )
