"""TextSize: how many tokens the text of --data.path has, before it is tokenized.

Shards say it themselves. Other texts are measured by their beginning, in the tokens that training
would give them: a BPE is trained on that beginning, a ready vocabulary is applied to it.
Previous: speed.py.  Next: memory.py.
"""

from dataclasses import dataclass, replace

from cfg_gpt2 import DataConfig
from data.piped_text import keep_piped
from data.prepared import open_prepared
from data.shards import is_prepared
from data.sources import TextChunk, TextSource, open_source
from data.token_files import VOCAB_SIZE
from tokenizer import Tokenizer

SAMPLE_CHARACTERS = 1_000_000  # of the training text, which are tokenized


@dataclass(frozen=True, kw_only=True)
class TextSize:
    """The size of a training text, without the part that is kept for validation."""

    n_bytes: int
    n_tokens: float
    vocab_size: int
    sample_bytes: int | None = None  # by which the tokens are estimated; None: they are counted


def measure_text(data: DataConfig) -> TextSize:
    """Returns the size of the text that these settings name.

    Raises FileNotFoundError and ValueError as opening the text for training does.
    """
    if any(map(is_prepared, data.path)):
        prepared = open_prepared(data)
        return TextSize(
            n_bytes=prepared.n_bytes["train"],
            n_tokens=len(prepared.streams["train"]),
            vocab_size=Tokenizer.load(prepared.folder).vocab_size,
        )
    source = open_source(replace(data, path=keep_piped(data.path, data.cache_dir)))
    chunks = beginning(source)
    texts = [chunk.text for chunk in chunks]
    tokenizer = tokenizer_of(data, texts)
    n_bytes = source.n_bytes("train")
    sample_bytes = sum(len(text.encode()) for text in texts)
    n_documents = sum(chunk.start == 0 for chunk in chunks)  # an end-of-text token stands at each
    n_sampled = n_documents + sum(map(len, tokenizer.encode_batch(texts)))
    vocab_size = tokenizer.vocab_size
    if data.tokenizer == "bpe" and sample_bytes < n_bytes:  # more text gives all of its merges
        vocab_size = data.vocab_size or VOCAB_SIZE
    return TextSize(
        n_bytes=n_bytes,
        n_tokens=n_bytes * n_sampled / max(1, sample_bytes),
        vocab_size=vocab_size,
        sample_bytes=sample_bytes,
    )


def beginning(source: TextSource) -> list[TextChunk]:
    """Returns the first SAMPLE_CHARACTERS of the training text or a little more, in chunks."""
    chunks, n_characters = [], 0
    for chunk in source.chunks("train"):
        chunks.append(chunk)
        n_characters += len(chunk.text)
        if n_characters >= SAMPLE_CHARACTERS:
            break
    return chunks


def tokenizer_of(data: DataConfig, texts: list[str]) -> Tokenizer:
    """Returns the tokenizer that these settings ask for, as far as a part of the text shows it."""
    if data.tokenizer == "bpe":
        return Tokenizer.train(texts, data.vocab_size or VOCAB_SIZE)
    if data.tokenizer == "char":
        return Tokenizer.characters(texts)
    return Tokenizer.from_gpt2(data.tokenizer)
