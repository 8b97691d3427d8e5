"""Loading: batches from a token file, by the project's windows and by the methods of two peers.

The loaders of nanoGPT and of the book cannot be imported without a training script or a
tokenizer, so their methods are re-implemented here: a memmap that is read at random offsets, and a
torch DataLoader over chunks of a token list.
Previous: tokenize_text.py.  Next: profiling.py.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.job import Candidate, Job
from data.stream import token_dtype
from load_data import DocumentWindows, TrainingWindows

N_TOKENS = 1 << 21  # in the file: 4 MB
BATCHES_PER_STEP = 32
END_OF_TEXT = 0  # does not occur in the random tokens


def token_file(job: Job) -> np.ndarray:
    """Writes random tokens into a file and returns it mapped into memory."""
    dtype = token_dtype(job.model.vocab_size)
    file = Path(job.scratch, "tokens.bin")
    n_tokens = max(N_TOKENS, 4 * job.batch_size * job.model.context_length) + 1
    np.random.default_rng(1).integers(1, job.model.vocab_size, n_tokens, dtype).tofile(file)
    return np.memmap(file, dtype, "r")


def ours(job: Job) -> Candidate:
    """The project: TrainingWindows.batch, every window once per epoch in random order."""
    length = job.model.context_length
    order = DocumentWindows(token_file(job), length, seed=1, end_of_text=END_OF_TEXT)
    windows = TrainingWindows(order, length, END_OF_TEXT)
    position = 0

    def step() -> int:
        nonlocal position
        n_tokens = 0
        for _ in range(BATCHES_PER_STEP):
            n_tokens += windows.batch(position, job.batch_size)[0].numel()
            position += job.batch_size
        return n_tokens

    return Candidate(step, note="each window once per epoch")


def memmap(job: Job) -> Candidate:
    """nanoGPT's method: windows at random offsets, so that some tokens repeat and others lack."""
    tokens, length = token_file(job), job.model.context_length

    def batch() -> tuple[Tensor, Tensor]:
        starts = torch.randint(len(tokens) - length, (job.batch_size,)).tolist()
        rows = [torch.from_numpy(tokens[s : s + length + 1].astype(np.int64)) for s in starts]
        return torch.stack([row[:-1] for row in rows]), torch.stack([row[1:] for row in rows])

    return Candidate(
        lambda: sum(batch()[0].numel() for _ in range(BATCHES_PER_STEP)), note="random offsets"
    )


class Chunks(Dataset[tuple[Tensor, Tensor]]):
    """A token list cut into windows of tokens and targets, all of them in memory."""

    def __init__(self, tokens: Tensor, length: int) -> None:
        starts = range(0, len(tokens) - length, length)
        self.tokens = [tokens[s : s + length] for s in starts]
        self.targets = [tokens[s + 1 : s + length + 1] for s in starts]

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.tokens[index], self.targets[index]


def dataloader(job: Job) -> Candidate:
    """The book's method: a shuffled DataLoader without worker processes."""
    tokens = torch.from_numpy(token_file(job).astype(np.int64))
    chunks = Chunks(tokens, job.model.context_length)
    loader = DataLoader(chunks, job.batch_size, shuffle=True, drop_last=True, num_workers=0)
    batches = iter(loader)

    def step() -> int:
        nonlocal batches
        n_tokens = 0
        for _ in range(BATCHES_PER_STEP):
            batch = next(batches, None)
            if batch is None:
                batches = iter(loader)
                batch = next(batches)
            n_tokens += batch[0].numel()
        return n_tokens

    return Candidate(step, note="all tokens in memory as int64")
