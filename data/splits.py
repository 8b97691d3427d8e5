"""Which part of the user's text is kept apart, to measure on it what was learned.

Of few files that is the end of each, of many some whole files: near the share that was asked for
whatever their sizes, because a giant among small files gives its end and is never kept as a whole.
Previous: text_files.py.  Next: json_lines.py.
"""

import hashlib
import random
from functools import partial
from pathlib import Path

from data.text_files import Span, next_character

MANY_FILES = 20  # from this number on, whole files are kept for validation
MAX_VALIDATION_BYTES = 10_000_000  # where no share is asked for: every evaluation reads all of it


def share_or_default(share: float | None, n_bytes: int) -> float:
    """Returns the share of a text that is for validation: the one asked for, or the default."""
    return share or min(0.1, MAX_VALIDATION_BYTES / max(1, n_bytes))


def split_files(files: dict[Path, int], share: float) -> dict[str, list[Span]]:
    """Splits files, given with their sizes; `share` of their bytes is for validation.

    Of fewer than MANY_FILES files the end of each is for validation, of more some whole files,
    drawn at random and the same in every call. Where that is far from the share, because files
    are too large or too small, the largest give their ends and whole ones are drawn among the
    others. At least one file stays for training.
    """
    total = sum(files.values())
    by_ends = partial(ends_of, files, share)
    by_files = partial(draw_whole_files, files, share * total, len(files) - 1)
    first, last = (by_ends, by_files) if len(files) < MANY_FILES else (by_files, by_ends)
    cuts = first()
    if not is_near(share, validation_bytes(files, cuts), total):
        others = (choose() for choose in (partial(draw_small_files, files, share), last))
        near = (other for other in others if is_near(share, validation_bytes(files, other), total))
        cuts = next(near, cuts)
    kept = [Span(file, cuts[file], size) for file, size in files.items() if cuts[file] < size]
    return {
        "train": [Span(file, 0, cut) for file, cut in cuts.items() if cut > 0],
        "validation": kept,
    }


def ends_of(files: dict[Path, int], share: float) -> dict[Path, int]:
    """Returns for each file the offset, at a character, at which its last `share` begins."""
    return {file: next_character(file, int(size * (1 - share))) for file, size in files.items()}


def draw_whole_files(files: dict[Path, int], n_bytes: float, limit: int) -> dict[Path, int]:
    """Draws at most `limit` files of together n_bytes or more for validation.

    Returns where the validation part of each file begins: at its beginning or at its end.
    """
    cuts = dict(files)
    for file in random.Random(0).sample(list(files), limit):
        if n_bytes > 0:
            n_bytes -= files[file]
            cuts[file] = 0
    return cuts


def draw_small_files(files: dict[Path, int], share: float) -> dict[Path, int]:
    """Draws whole files among the small ones and takes the ends of the others.

    A file is small where, kept as a whole, it takes at most half of either split; so the sum of
    both parts exceeds `share` by half of it at most. Returns what draw_whole_files does.
    """
    limit = min(share, 1 - share) * sum(files.values()) / 2
    small = {file: size for file, size in files.items() if size <= limit}
    large = {file: size for file, size in files.items() if size > limit}
    cuts = draw_whole_files(small, share * sum(small.values()), len(small))
    cuts.update(ends_of(large, share))
    return {file: cuts[file] for file in files}


def validation_bytes(files: dict[Path, int], cuts: dict[Path, int]) -> int:
    """Returns the number of bytes behind the cuts."""
    return sum(size - cuts[file] for file, size in files.items())


def is_near(share: float, n_validation: int, n_bytes: int) -> bool:
    """Returns whether validation gets between half and twice its share, and training half of its
    own or more.
    """
    kept = n_validation / n_bytes
    return share / 2 <= kept <= 2 * share and 1 - kept >= (1 - share) / 2


def draw_split(name: str, validation_share: float) -> str:
    """Returns the split of a document, drawn at random by a hash of its name alone."""
    drawn = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()
    return "validation" if int.from_bytes(drawn) < validation_share * 2**64 else "train"
