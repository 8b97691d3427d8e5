"""What people should know of their files, in one line each: what is left out, or not as they think.

Previous: stream.py.  Next: sources.py.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from data.file_types import TYPE_OF_SUFFIX, type_of
from data.json_lines import TEXT_FIELD
from data.splits import is_near
from data.text_files import TEXTS, FoundFiles, in_words
from run_directory.paths import name_as_text

END_MARK = b"<|endoftext|>"  # as files of many documents often have it between them
SEARCHED_BYTES = 1 << 26  # of a text, for END_MARK
READ_BYTES = 1 << 20


def notes_on_files(found: FoundFiles, field: str = TEXT_FIELD) -> list[str]:
    """Returns sentences on what is not read, and on JSONL, read by a field, without that name."""
    notes = []
    if found.left_out:
        kinds = " and ".join(f"*{suffix}" for suffix in TEXTS.suffixes)
        notes.append(f"left out: {in_words(found.left_out)}; a folder stands for its {kinds} files")
    file = next(iter(found.sizes))
    if file.suffix.lower() not in TYPE_OF_SUFFIX and type_of(file) == "JSONL":
        notes.append(
            f"{name_as_text(file)} holds JSON, an object a line: its field {field!r} is read"
        )
    return notes


def notes_on_marks(files: Iterable[Path]) -> list[str]:
    """Returns a sentence where a file has END_MARK within the first SEARCHED_BYTES of all."""
    left = SEARCHED_BYTES
    for file in files:
        end = b""
        with file.open("rb") as text:
            while left > 0 and (data := text.read(READ_BYTES)):
                if END_MARK in end + data:
                    return [
                        f"{name_as_text(file)} has {END_MARK.decode()} in it, which is read as "
                        "text and ends no document; give each document a file, or a line of JSONL"
                    ]
                left, end = left - len(data), data[-len(END_MARK) :]
        if left <= 0:
            break
    return []


def note_on_share(share: float, n_bytes: Mapping[str, int]) -> list[str]:
    """Returns a sentence where the validation split is far from its share, else nothing.

    n_bytes has the bytes of both splits.
    """
    total = sum(n_bytes.values())
    if total == 0 or is_near(share, n_bytes["validation"], total):
        return []
    return [
        f"the validation split is {n_bytes['validation'] / total:.2%} of the text where "
        f"{share:.2%} was asked for: its documents cannot be divided better; give more of them, "
        "or another --data.validation-share"
    ]
