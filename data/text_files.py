"""The user's text files: which ones a path names, and their text.

Files are read in chunks, never whole, so a file may be larger than memory.
Previous: tiny_world/stories.py.  Next: piped_text.py.
"""

import codecs
import glob
import io
import os
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cfg_gpt2 import require
from data.encodings import not_utf8
from data.tiny_world.stories import LANGUAGES
from run_directory.paths import kind_of, name_as_text, user_path

CHUNK_BYTES = 1 << 16  # bytes of a file that are decoded, and then encoded, at a time
MAX_WORD_CHARACTERS = 1 << 20  # a longer word is cut, to bound memory
NAMED_SUFFIXES = 5  # in the line that says what was left out of folders

_UP_TO_LAST_WORD = re.compile(r".*\S(?=[ \n])", re.DOTALL)


class Span(NamedTuple):
    """The part of a file, in bytes, that belongs to a split."""

    path: Path
    start: int
    stop: int


class Wanted(NamedTuple):
    """The files that a flag takes."""

    flag: str
    what: str  # for messages
    suffixes: tuple[str, ...]  # of the files that are read of a folder
    names: Sequence[str]  # that the flag takes besides paths


TEXTS = Wanted("--data.path", "text files", (".txt", ".md"), tuple(LANGUAGES))


class FoundFiles(NamedTuple):
    """The files that paths name, and what was left out of the folders among them."""

    by_path: list[dict[Path, int]]  # sizes in bytes; each file stands with the first path of it
    left_out: Counter[str]  # how many there are of each kind, such as "*.csv"

    @property
    def sizes(self) -> dict[Path, int]:
        """All files, with their sizes in bytes."""
        return {file: size for files in self.by_path for file, size in files.items()}


def find_files(paths: Sequence[str], wanted: Wanted = TEXTS) -> FoundFiles:
    """Returns the files that the paths name, each of them once, without the empty ones.

    Raises FileNotFoundError for a path that names no file, and ValueError where all are empty.
    """
    left_out: Counter[str] = Counter()
    by_path: list[dict[Path, int]] = []
    seen: set[Path] = set()
    empty: list[Path] = []
    for path in paths:
        files = dict.fromkeys(file.resolve() for file in expand(path, left_out, wanted))
        sizes = {file: file.stat().st_size for file in files if file not in seen}
        seen.update(sizes)
        empty += [file for file, size in sizes.items() if size == 0]
        by_path.append({file: size for file, size in sizes.items() if size > 0})
    if not any(by_path):
        others = f", and so are {len(empty) - 1:,} others" if len(empty) > 1 else ""
        raise ValueError(f"{empty[0]} is empty{others}; give it some text, or name another file")
    left_out["empty files"] += len(empty)
    return FoundFiles(by_path, +left_out)


def expand(path: str, left_out: Counter[str] | None = None, wanted: Wanted = TEXTS) -> list[Path]:
    """Returns the files that a path of the command line names: a file, a glob or a folder.

    A folder stands for its .txt and .md files at any depth, or for those with the suffixes that
    are wanted; what else is in it is counted in left_out. Raises FileNotFoundError where there is
    no file, and ValueError for a device.
    """
    left_out = Counter() if left_out is None else left_out
    return files_of(user_path(path, wanted.flag), left_out, wanted)


def files_of(named: Path, left_out: Counter[str], wanted: Wanted) -> list[Path]:
    """Returns what `expand` does, for a path without `~`."""
    kind = kind_of(named)
    if kind == "file":
        return [named]
    if kind == "folder":
        return files_of_folder(named, left_out, wanted)
    require(kind == "missing", f"{named} is a {kind} and no text file; leave it out")
    matches = sorted(glob.glob(str(named), recursive=True))
    if not matches:
        known = ", ".join([wanted.what, "folders", "globs", *wanted.names])
        raise FileNotFoundError(f"{named} does not exist; name {known}")
    return [file for match in matches for file in files_of(Path(match), left_out, wanted)]


def files_of_folder(folder: Path, left_out: Counter[str], wanted: Wanted) -> list[Path]:
    """Returns the wanted files of a folder at any depth, in order, and counts the others.

    Links to folders are followed, each folder is read once, and folders above this one never.
    Raises FileNotFoundError where there is no such file, and OSError for a folder that may not be
    read.
    """
    files: list[Path] = []
    others: Counter[str] = Counter()
    seen, above = set(), {folder.resolve(), *folder.resolve().parents}
    folders, linked = [folder], deque[Path]()  # a folder is read by its own name, if it has one
    while folders or linked:
        inside = folders.pop() if folders else linked.popleft()
        real = inside.resolve()
        if real in seen or (real in above and inside != folder):
            continue
        seen.add(real)
        try:
            entries = list(os.scandir(inside))
        except OSError:
            if inside == folder:
                raise
            others["folders that may not be read"] += 1
            continue
        for entry in entries:
            what = what_is(entry, wanted)
            if what == "folder":
                (linked if entry.is_symlink() else folders).append(Path(entry.path))
            elif what == "wanted":
                files.append(Path(entry.path))
            else:
                others[what] += 1
    left_out.update(others)
    if not files:
        kinds = " or ".join(f"*{suffix}" for suffix in wanted.suffixes)
        has = f"; it has {in_words(others)}" if others else ""
        raise FileNotFoundError(f"{folder} has no {kinds} at any depth{has}; name files or a glob")
    return sorted(files)


def what_is(entry: os.DirEntry[str], wanted: Wanted) -> str:
    """Returns "wanted" or "folder" for what is read of a folder's entries, else a description."""
    if entry.name.startswith("."):
        return "hidden"
    try:
        if entry.is_dir():
            return "folder"
        if not entry.is_file():
            return "links that lead to no file" if entry.is_symlink() else "pipes or devices"
    except OSError:  # links in a circle
        return "links that lead to no file"
    suffix = Path(entry.name).suffix.lower()
    if suffix in wanted.suffixes:
        return "wanted"
    return f"*{suffix}" if suffix else "without a suffix"


def in_words(left_out: Counter[str]) -> str:
    """Returns counts as a list for people, the rarest of many suffixes together."""
    suffixes = [what for what, _ in left_out.most_common() if what.startswith("*")]
    rare = suffixes[NAMED_SUFFIXES:]
    named = [f"{n:,} {what}" for what, n in left_out.most_common() if what not in rare]
    rest = [f"{sum(left_out[what] for what in rare):,} of other kinds"] if rare else []
    return ", ".join(named + rest)


def fingerprint(file: Path) -> list[str | int]:
    """Returns what tells a changed file from the same one: its path, size and time of change."""
    status = file.stat()
    return [name_as_text(file.resolve()), status.st_size, status.st_mtime_ns]


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


def cut_at_words(text: str, size: int = CHUNK_BYTES) -> Iterator[str]:
    """Yields a text that is in memory in pieces of about `size` characters, as read_span does."""
    start, stop = 0, size
    while stop < len(text):
        cut = last_word_boundary(text[start:stop])
        if cut:
            yield text[start : start + cut]
            start += cut
        stop = max(stop, start) + size if not cut else start + size
    if text:
        yield text[start:]
