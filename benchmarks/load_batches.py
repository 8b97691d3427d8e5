"""Tokens to batches: the project's windows, and the two ways that peers have.

Neither nanoGPT's nor the book's loader can be imported without its training script or its
tokenizer, so these two are their methods, written down: a memmap that is read at random offsets,
and a torch DataLoader over chunks of a token list.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.job import Contender, Job
from data.stream import token_dtype
from load_data import DocumentWindows, TrainingWindows

N_TOKENS = 1 << 21  # in the file: 4 MB
BATCHES = 32  # in a step
END_OF_TEXT = 0  # which does not occur


def token_file(job: Job) -> np.ndarray:
    """Random tokens in a file of 16- or 32-bit numbers that is mapped into memory."""
    dtype = token_dtype(job.model.vocab_size)
    file = Path(job.scratch, "tokens.bin")
    n_tokens = max(N_TOKENS, 4 * job.batch_size * job.model.context_length) + 1
    np.random.default_rng(1).integers(1, job.model.vocab_size, n_tokens, dtype).tofile(file)
    return np.memmap(file, dtype, "r")


def ours(job: Job) -> Contender:
    """TrainingWindows.batch: every window once an epoch, in random order."""
    length = job.model.context_length
    order = DocumentWindows(token_file(job), length, seed=1, end_of_text=END_OF_TEXT)
    windows = TrainingWindows(order, length, END_OF_TEXT)
    position = 0

    def step() -> int:
        nonlocal position
        n_tokens = 0
        for _ in range(BATCHES):
            n_tokens += windows.batch(position, job.batch_size)[0].numel()
            position += job.batch_size
        return n_tokens

    return Contender(step, note="each window once an epoch")


def memmap(job: Job) -> Contender:
    """Each batch begins anywhere in the file; some tokens are read often, others never."""
    tokens, length = token_file(job), job.model.context_length

    def batch() -> tuple[Tensor, Tensor]:
        starts = torch.randint(len(tokens) - length, (job.batch_size,)).tolist()
        rows = [torch.from_numpy(tokens[s : s + length + 1].astype(np.int64)) for s in starts]
        return torch.stack([row[:-1] for row in rows]), torch.stack([row[1:] for row in rows])

    return Contender(lambda: sum(batch()[0].numel() for _ in range(BATCHES)), note="random offsets")


class Chunks(Dataset[tuple[Tensor, Tensor]]):
    """A token list cut into tokens and targets, all of them in memory."""

    def __init__(self, tokens: Tensor, length: int) -> None:
        starts = range(0, len(tokens) - length, length)
        self.tokens = [tokens[s : s + length] for s in starts]
        self.targets = [tokens[s + 1 : s + length + 1] for s in starts]

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.tokens[index], self.targets[index]


def dataloader(job: Job) -> Contender:
    """Shuffled, in this process, as in the book."""
    tokens = torch.from_numpy(token_file(job).astype(np.int64))
    chunks = Chunks(tokens, job.model.context_length)
    loader = DataLoader(chunks, job.batch_size, shuffle=True, drop_last=True, num_workers=0)
    batches = iter(loader)

    def step() -> int:
        nonlocal batches
        n_tokens = 0
        for _ in range(BATCHES):
            batch = next(batches, None)
            if batch is None:
                batches = iter(loader)
                batch = next(batches)
            n_tokens += batch[0].numel()
        return n_tokens

    return Contender(step, note="all tokens in memory as int64")
