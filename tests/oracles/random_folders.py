"""Random folders of texts: sizes of one kind or another, and where their parts are found again."""

import random
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from oracles.corpora import PROSE, RUSSIAN

FIRST = 0x4E00  # of a file's first character, which no other file has


def random_folder(
    draw: random.Random, scales: Sequence[int] = (1, 20, 600, 50_000)
) -> tuple[dict[Path, int], float]:
    """Sizes of one kind or another, and a share to keep apart."""
    n_files = draw.choice([draw.randint(1, 30), draw.randint(1, 500)])
    scale = draw.choice(scales)
    sizes = {
        "equal": lambda: scale,
        "lognormal": lambda: int(scale * draw.lognormvariate(0, draw.choice([0.5, 1.5, 3]))),
        "Pareto": lambda: int(scale * draw.paretovariate(draw.choice([0.5, 1.1, 2]))),
        "giants": lambda: draw.randint(1, scale),
    }
    kind = draw.choice(list(sizes))
    files = {Path(f"{number}.txt"): max(1, sizes[kind]()) for number in range(n_files)}
    if kind == "giants":
        for file in draw.sample(list(files), min(n_files, draw.randint(1, 2))):
            files[file] = scale * draw.randint(100, 10_000)
    return files, draw.choice([0.1, 0.1, 0.01, 0.3, draw.uniform(0.001, 0.9)])


def small_folder(draw: random.Random, largest: int) -> list[int]:
    """Sizes of files that are really written, at most `largest` bytes each."""
    files, _ = random_folder(draw, (1, largest // 500, largest // 100))
    return [min(size, largest) for size in files.values()]


def write_texts(folder: Path, sizes: Sequence[int], first: int = 0) -> list[str]:
    """Writes files of at least three and about `sizes` bytes in two scripts; returns the texts.

    Each text begins with a character that no other has, numbered from `first` on.
    """
    folder.mkdir(parents=True)
    words = (PROSE + RUSSIAN) * (1 + max(sizes) // 2000)
    texts = [
        chr(FIRST + first + n) + words[n : n + max(0, size - 3)] for n, size in enumerate(sizes)
    ]
    for number, text in enumerate(texts):
        (folder / f"{number:03d}.txt").write_bytes(text.encode())
    return texts


def rests_of(texts: Sequence[str], train: Sequence[str]) -> list[str]:
    """What the training documents leave of each text, which must begin with its document."""
    documents = {document[0]: document for document in train}
    assert len(documents) == len(train)
    parts = [documents.get(text[0], "") for text in texts]
    assert all(text.startswith(part) for text, part in zip(texts, parts, strict=True))
    return [text.removeprefix(part) for text, part in zip(texts, parts, strict=True)]


def is_far_from(share: float, n_bytes: Mapping[str, int]) -> bool:
    """Whether the validation split has less than half or more than twice its share."""
    kept = n_bytes["validation"] / sum(n_bytes.values())
    return not share / 2 <= kept <= 2 * share


def is_tiny(sizes: Collection[int], share: float) -> bool:
    """Whether a split of these files can miss its share because of their size alone."""
    return sum(sizes) * min(share, 1 - share) < 10 * len(sizes)
