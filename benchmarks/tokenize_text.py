"""Text to ids: everyone has the same vocabulary and must give the same ids.

The text is cut into pieces of some kilobytes, which is how load_data.py gives it to the
tokenizer, and everyone may use all cores.
"""

import os
import re
from pathlib import Path

from benchmarks.job import Contender, Job
from tokenizer import END_OF_TEXT, Tokenizer

PIECE = 1 << 14  # characters
COMPARED = 4  # pieces whose ids are compared
# GPT-2's own words, Radford et al. 2019; the same as in tiktoken and tokenizers
WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def pieces_of(text: str) -> list[str]:
    """Together they are the text; each begins with the white space before a word."""
    return re.findall(rf".{{1,{PIECE}}}(?=\s|$)|.{{1,{PIECE}}}", text, flags=re.DOTALL)


def read(job: Job) -> tuple[list[str], int, Tokenizer]:
    """The pieces, their bytes, and the project's tokenizer."""
    text = Path(job.text).read_text(encoding="utf-8")
    return pieces_of(text), len(text.encode()), Tokenizer.load(job.vocabulary)


def ours(job: Job) -> Contender:
    """Tokenizer.encode_batch."""
    pieces, n_bytes, tokenizer = read(job)

    def step() -> int:
        tokenizer.encode_batch(pieces)
        return n_bytes

    return Contender(step, note=f"{tokenizer.vocab_size:,} tokens")


def tiktoken(job: Job) -> Contender:
    """An Encoding of the same vocabulary: in BPE the rank of a merge is the id it makes."""
    import tiktoken as package

    pieces, n_bytes, tokenizer = read(job)
    end = tokenizer.end_of_text
    ranks = {tokenizer.token_bytes(id): id for id in range(tokenizer.vocab_size) if id != end}
    encoding = package.Encoding(
        "same", pat_str=WORDS, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: end}
    )
    threads = os.cpu_count() or 1

    def encode(texts: list[str]) -> list[list[int]]:
        return encoding.encode_ordinary_batch(texts, num_threads=threads)

    compare(tokenizer, pieces, encode(pieces[:COMPARED]))

    def step() -> int:
        encode(pieces)
        return n_bytes

    return Contender(step, note=f"tiktoken {package.__version__}, {threads} threads")


def transformers(job: Job) -> Contender:
    """The package's fast tokenizer, out of the same tokenizer.json."""
    import transformers as package

    pieces, n_bytes, tokenizer = read(job)
    file = str(Path(job.vocabulary, "tokenizer.json"))
    fast = package.PreTrainedTokenizerFast(tokenizer_file=file)

    def encode(texts: list[str]) -> list[list[int]]:
        return fast(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]

    compare(tokenizer, pieces, encode(pieces[:COMPARED]))

    def step() -> int:
        encode(pieces)
        return n_bytes

    return Contender(step, note=f"transformers {package.__version__}")


def compare(tokenizer: Tokenizer, pieces: list[str], found: list[list[int]]) -> None:
    """Raises ValueError where the ids are not the project's: the work would not be the same."""
    if tokenizer.encode_batch(pieces[:COMPARED]) != found:
        raise ValueError("it gives other ids than the project for this vocabulary")
