"""The program of one worker process: a job comes in as a line of JSON, its tokens go out.

    in    {"kind": "text", "path": ..., "start": ..., ...}
    out   {"train": {"tokens": 512, "documents": 1, "bytes": 2011}, "validation": ...}
          the tokens of both splits, as they stand in the shards

It does not import PyTorch, starts in half a second, and ends when its input ends.
Previous: word_cache.py.  Next: worker_pool.py.
"""

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from typing import BinaryIO

import numpy as np

from data import SPLITS
from preparation.jobs import Job, job_of_json
from preparation.word_cache import WordCache
from tokenizer import Tokenizer, UnseenCharacter


@dataclass
class Counts:
    """How much of a split is in a job, or in a shard."""

    tokens: int = 0
    documents: int = 0  # that begin in it
    bytes: int = 0  # UTF-8 bytes of text


EncodedJob = dict[str, tuple[Counts, bytes]]  # of each split: its counts and its tokens


def encode(job: Job, words: WordCache) -> EncodedJob:
    """Returns the tokens of a job, with an end-of-text token before each document.

    Raises ValueError for text that is not UTF-8 or lacks its field, UnseenCharacter for a
    character that the tokenizer does not have, and OSError where a file cannot be read.
    """
    boundary = words.as_bytes([words.tokenizer.end_of_text])
    parts: dict[str, list[bytes]] = {split: [] for split in SPLITS}
    counts = {split: Counts() for split in SPLITS}
    for passage in job.passages():
        if passage.begins_document:
            parts[passage.split].append(boundary)
            counts[passage.split].documents += 1
        parts[passage.split].append(words.encode(passage.text))
        counts[passage.split].bytes += len(passage.text.encode())
    tokens = {split: b"".join(parts[split]) for split in SPLITS}
    for split in SPLITS:
        counts[split].tokens = len(tokens[split]) // words.dtype.itemsize
    return {split: (counts[split], tokens[split]) for split in SPLITS}


def serve(jobs: BinaryIO, answers: BinaryIO, words: WordCache) -> None:
    """Answers one job after the other until `jobs` ends.

    An error that the user can mend is answered as {"error": sentence} in place of tokens.
    """
    for line in jobs:
        job = job_of_json(line)
        try:
            encoded = encode(job, words)
        except UnseenCharacter as error:
            name = getattr(job, "path", "the data set")
            send(answers, {"error": str(error.within(0, f"a piece of {name}"))})
        except (ValueError, OSError) as error:
            send(answers, {"error": str(error)})
        else:
            send(answers, {split: asdict(counts) for split, (counts, _) in encoded.items()})
            for _, tokens in encoded.values():
                answers.write(tokens)
            answers.flush()


def send(answers: BinaryIO, header: dict) -> None:
    """Writes the header of an answer, one line of JSON."""
    answers.write(json.dumps(header).encode() + b"\n")
    answers.flush()


def main(folder: str, dtype: str) -> None:
    """Serves standard input with the tokenizer of a folder; dtype is that of the tokens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that sends the jobs
    words = WordCache(Tokenizer.load(folder), np.dtype(dtype))
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer, words)
    except BrokenPipeError:  # the process that sends the jobs has ended
        os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
