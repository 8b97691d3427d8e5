"""One of several processes that encode: a job comes in as a line of JSON, its tokens go out.

    in    {"kind": "text", "path": ..., "start": ..., ...}
    out   {"train": {"tokens": 512, "documents": 1, "bytes": 2011}, "validation": ...}
          the tokens of both splits, as they stand in the shards

It knows nothing of PyTorch, starts in half a second and ends when its input does.
Previous: word_cache.py.  Next: workers.py.
"""

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from typing import BinaryIO

import numpy as np
from pydantic import TypeAdapter

from data import SPLITS
from preparation.jobs import Job
from preparation.word_cache import WordCache
from tokenizer import Tokenizer, UnseenCharacter


@dataclass
class Amount:
    """How much of a split is in a job."""

    tokens: int = 0
    documents: int = 0  # that begin in it
    bytes: int = 0  # of text


Encoded = dict[str, tuple[Amount, bytes]]  # of each split


def encode(job: Job, words: WordCache) -> Encoded:
    """The tokens of a job; before each document an end-of-text token."""
    border = words.as_bytes([words.tokenizer.end_of_text])
    found: dict[str, list[bytes]] = {split: [] for split in SPLITS}
    amounts = {split: Amount() for split in SPLITS}
    for passage in job.passages():
        if passage.begins:
            found[passage.split].append(border)
            amounts[passage.split].documents += 1
        found[passage.split].append(words.encode(passage.text))
        amounts[passage.split].bytes += len(passage.text.encode())
    tokens = {split: b"".join(found[split]) for split in SPLITS}
    for split in SPLITS:
        amounts[split].tokens = len(tokens[split]) // words.dtype.itemsize
    return {split: (amounts[split], tokens[split]) for split in SPLITS}


def work(jobs: BinaryIO, answers: BinaryIO, words: WordCache) -> None:
    """Answers job after job; what a user can mend is answered as one sentence."""
    reader = TypeAdapter[Job](Job)
    for line in jobs:
        job = reader.validate_json(line)
        try:
            encoded = encode(job, words)
        except UnseenCharacter as error:
            where = getattr(job, "path", "the data set")
            send(answers, {"error": str(error.within(0, f"a piece of {where}"))})
        except (ValueError, OSError) as error:
            send(answers, {"error": str(error)})
        else:
            send(answers, {split: asdict(amount) for split, (amount, _) in encoded.items()})
            for _, tokens in encoded.values():
                answers.write(tokens)
            answers.flush()


def send(answers: BinaryIO, header: dict) -> None:
    answers.write(json.dumps(header).encode() + b"\n")
    answers.flush()


def main(folder: str, dtype: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that gives the jobs
    words = WordCache(Tokenizer.load(folder), np.dtype(dtype))
    try:
        work(sys.stdin.buffer, sys.stdout.buffer, words)
    except BrokenPipeError:  # whoever gave the jobs is gone, and the answers with it
        os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
