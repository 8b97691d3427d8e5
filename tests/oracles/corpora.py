"""Texts for the tests of the data: writing them, loading them, and reading them back."""

from itertools import pairwise
from pathlib import Path

from hypothesis import settings

from cfg_gpt2 import DataConfig
from data.sources import TextFileSource
from data.text_files import CHUNK_BYTES
from data.token_files import BATCH_CHARACTERS, Report, cache_key, make_token_files
from load_data import Corpus, Split, load_corpus

PROSE = "The fox asked where the drum was.\nIt's in the barn, the hen said, isn't it?\n\n" * 12
RUSSIAN = "Лиса спросила, где барабан. «В сарае», — ответила курица.\n" * 12
patient = settings(deadline=None)  # the machine may be busy


def write(path: Path, text: str | bytes) -> Path:
    """Writes a file, in UTF-8, and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def data_config(cache: Path, *paths: Path | str, **settings) -> DataConfig:
    return DataConfig(path=tuple(map(str, paths)), cache_dir=str(cache), **settings)


def load_in_chunks(
    config: DataConfig,
    report: Report | None = None,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    batch_characters: int = BATCH_CHARACTERS,
) -> Corpus:
    """load_corpus, with the sizes in which text files are read and encoded."""
    source = TextFileSource(config, chunk_bytes=chunk_bytes)
    folder = Path(config.cache_dir, cache_key(config, source))
    make_token_files(folder, source, config, report, batch_characters=batch_characters)
    return load_corpus(config)


def documents(corpus: Corpus, split: Split) -> list[str]:
    """The stream of a split, split at its end-of-text tokens and decoded."""
    ids = split.tokens[:].tolist()
    end = corpus.tokenizer.end_of_text
    assert ids[0] == ids[-1] == end
    boundaries = [place for place, id in enumerate(ids) if id == end]
    return [corpus.tokenizer.decode(ids[start + 1 : stop]) for start, stop in pairwise(boundaries)]


def all_text(corpus: Corpus) -> str:
    """The documents of both splits, end to end."""
    return "".join(documents(corpus, corpus.train) + documents(corpus, corpus.validation))
