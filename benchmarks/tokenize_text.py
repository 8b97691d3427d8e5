"""Tokenizing: all candidates have the same vocabulary and must give the same ids.

The text is split into pieces of some kilobytes, as load_data.py passes it to the tokenizer, and
all candidates may use all cores.
Previous: decode.py.  Next: load_batches.py.
"""

import os
import re
from pathlib import Path

from benchmarks.job import Candidate, Job
from tokenizer import END_OF_TEXT, Tokenizer

PIECE_CHARACTERS = 1 << 14
N_COMPARED = 4  # pieces whose ids are compared
# GPT-2's pattern of words, Radford et al. 2019; the same as in tiktoken and tokenizers
WORD_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def split_into_pieces(text: str) -> list[str]:
    """Splits a text before white space, so that no word is cut unless it is longer than a piece."""
    return re.findall(
        rf".{{1,{PIECE_CHARACTERS}}}(?=\s|$)|.{{1,{PIECE_CHARACTERS}}}", text, flags=re.DOTALL
    )


def read_inputs(job: Job) -> tuple[list[str], int, Tokenizer]:
    """Returns the pieces of the text, their bytes, and the project's tokenizer."""
    text = Path(job.text).read_text(encoding="utf-8")
    return split_into_pieces(text), len(text.encode()), Tokenizer.load(job.vocabulary)


def ours(job: Job) -> Candidate:
    """The project: Tokenizer.encode_batch, which loading data calls."""
    pieces, n_bytes, tokenizer = read_inputs(job)

    def step() -> int:
        tokenizer.encode_batch(pieces)
        return n_bytes

    return Candidate(step, note=f"{tokenizer.vocab_size:,} tokens")


def tiktoken(job: Job) -> Candidate:
    """tiktoken with the same vocabulary: in BPE the rank of a merge is the id of its token."""
    import tiktoken as package

    pieces, n_bytes, tokenizer = read_inputs(job)
    end = tokenizer.end_of_text
    ranks = {tokenizer.token_bytes(id): id for id in range(tokenizer.vocab_size) if id != end}
    encoding = package.Encoding(
        "same", pat_str=WORD_PATTERN, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: end}
    )
    threads = os.cpu_count() or 1

    def encode(texts: list[str]) -> list[list[int]]:
        return encoding.encode_ordinary_batch(texts, num_threads=threads)

    require_same_ids(tokenizer, pieces, encode(pieces[:N_COMPARED]))

    def step() -> int:
        encode(pieces)
        return n_bytes

    return Candidate(step, note=f"tiktoken {package.__version__}, {threads} threads")


def transformers(job: Job) -> Candidate:
    """The fast tokenizer of transformers, from the same tokenizer.json."""
    import transformers as package

    pieces, n_bytes, tokenizer = read_inputs(job)
    file = str(Path(job.vocabulary, "tokenizer.json"))
    fast = package.PreTrainedTokenizerFast(tokenizer_file=file)

    def encode(texts: list[str]) -> list[list[int]]:
        return fast(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]

    require_same_ids(tokenizer, pieces, encode(pieces[:N_COMPARED]))

    def step() -> int:
        encode(pieces)
        return n_bytes

    return Candidate(step, note=f"transformers {package.__version__}")


def require_same_ids(tokenizer: Tokenizer, pieces: list[str], ids: list[list[int]]) -> None:
    """Raises ValueError where ids differ from the project's: the work would not be the same."""
    if tokenizer.encode_batch(pieces[:N_COMPARED]) != ids:
        raise ValueError("it gives other ids than the project for this vocabulary")
