"""Pairs of a better and a worse answer as training data, with what the start weights think of them.

    rows 2n, 2n + 1 = prompt and chosen answer, prompt and rejected answer
    reference[n]    = log p_start of both answers, in nats

The reference is computed once, by the weights that finetuning begins with, before its first step:
no second model is kept in memory. It lies in the run directory, so a resumed run reads the same
numbers, whatever machine it goes on.
Previous: preference_settings.py.  Next: preference.py.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors import SafetensorError, safe_open
from torch import Tensor

from finetuning.chat_format import Dialogue, EncodedDialogue, encode_dialogue
from finetuning.dialogues import BucketedOrder, DialogueRows, collate_rows
from finetuning.preview import fit
from finetuning.row_formats import Pair
from gpt2 import GPT2Model
from run_directory.weights import write_tensors
from tokenizer import Tokenizer
from training.checkpoint import has_checkpoint
from training.progress import Bar
from training.runtime import Runtime
from training.training_data import Batch

REFERENCE_FILE = "reference.safetensors"
TOKENS_AT_A_TIME = 1 << 14  # of a batch for the reference

EncodedPair = tuple[EncodedDialogue, EncodedDialogue]  # the chosen answer's and the rejected one's
LogProbabilities = Callable[[GPT2Model, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Pairs:
    """Prompts with two answers each, of which the first is the better one."""

    rows: DialogueRows  # two for each pair
    reference: Tensor  # (2n,) fp32, log-probabilities by the start weights
    n_bytes: int = 0  # what is predicted is no text, but which answer is the better one
    n_left_out: int = 0  # pairs that do not fit the context

    @classmethod
    def of(cls, pairs: Iterable[EncodedPair], tokenizer: Tokenizer) -> "Pairs":
        """Returns pairs without their reference. Raises ValueError where there is none."""
        rows = DialogueRows.of((row for pair in pairs for row in pair), tokenizer)
        return cls(rows, torch.zeros(len(rows)))

    def __len__(self) -> int:
        return len(self.rows) // 2

    @property
    def n_targets(self) -> int:
        """The tokens of the answers."""
        return self.rows.n_targets

    @cached_property
    def lengths(self) -> np.ndarray:
        """The number of tokens of the longer row of each pair, (n,)."""
        return self.rows.lengths.reshape(-1, 2).max(1)

    def batch(self, numbers: Sequence[int], context_length: int, end_of_text: int) -> Batch:
        """Returns the reference (2n,), tokens and targets (2n, T) of the pairs with n numbers."""
        row_numbers = [2 * number + which for number in numbers for which in (0, 1)]
        rows = [self.rows[number] for number in row_numbers]
        return self.reference[row_numbers], *collate_rows(rows, context_length, end_of_text)


def fit_pair(pair: Pair, tokenizer: Tokenizer, context_length: int) -> EncodedPair | None:
    """Returns a pair without the oldest turns of its prompt that do not fit; None: none fits.

    Both rows, of the chosen and of the rejected answer, keep the same turns, and only the answer is
    learned. Raises UnseenCharacter as encode_dialogue does.
    """
    answers = (pair.chosen, pair.rejected)
    prompt = unlearned(pair.prompt)
    longer = max(answers, key=lambda answer: len(tokenizer.encode(answer.content)))
    encoded = fit((*prompt, longer), tokenizer, context_length)
    if encoded is None:
        return None
    n_system = int(prompt[0].role == "system")
    n_left_out = 1 + len(prompt) - encoded.tokens.count(tokenizer.end_of_text)
    kept = prompt[:n_system] + prompt[n_system + n_left_out :]
    chosen, rejected = (encode_dialogue((*kept, answer), tokenizer) for answer in answers)
    return chosen, rejected


def unlearned(prompt: Dialogue) -> Dialogue:
    """Returns a prompt of which nothing is learned, not even what the assistant says in it."""
    return tuple(replace(message, is_learned=False) for message in prompt)


@dataclass(frozen=True)
class PreferenceCorpus:
    """Pairs of answers as the trainer needs them; see training/training_data.py."""

    tokenizer: Tokenizer
    train: Pairs
    validation: Pairs
    floor_bits_per_byte: float | None = None

    def windows(self, context_length: int, seed: int) -> "PairWindows":
        """Returns the training pairs in the order in which they are read."""
        order = BucketedOrder(self.train.lengths, seed)
        return PairWindows(self.train, order, context_length, self.tokenizer.end_of_text)

    def evaluation_batches(self, context_length: int, batch_size: int) -> Iterator[Batch]:
        """Yields batches that hold each validation pair once, sorted by length."""
        for numbers in sorted_batches(self.validation, batch_size):
            yield self.validation.batch(numbers, context_length, self.tokenizer.end_of_text)

    def sha256(self) -> str:
        """Returns a hash of all tokens, of which of them are answers, and of the reference."""
        digest = hashlib.sha256(self.rows_sha256().encode())
        for part in (self.train, self.validation):
            digest.update(part.reference.numpy().tobytes())
        return digest.hexdigest()

    def rows_sha256(self) -> str:
        """Returns a hash of all tokens, and of which of them are answers."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation):
            for numbers in (part.rows.tokens, part.rows.is_learned, part.rows.starts):
                digest.update(numbers.tobytes() + b"|")
        return digest.hexdigest()


@dataclass(frozen=True)
class PairWindows:
    """The training pairs, read as batches. A position is the number of a pair."""

    pairs: Pairs
    order: BucketedOrder
    context_length: int
    end_of_text: int  # stands in the padding

    def batch(self, first: int, count: int, step: int = 1) -> Batch:
        """Returns pairs first, first + step, ..., `count` in all; see Pairs.batch."""
        numbers = [self.order[place] for place in range(first, first + count * step, step)]
        return self.pairs.batch(numbers, self.context_length, self.end_of_text)

    def epochs(self, n_windows: int) -> list[float]:
        """Returns how often the first n_windows go through the pairs."""
        return [n_windows / len(self.pairs)]


def sorted_batches(pairs: Pairs, batch_size: int) -> list[list[int]]:
    """Returns the numbers of all pairs in batches, sorted by length."""
    order = np.argsort(pairs.lengths, kind="stable").tolist()
    return [order[first : first + batch_size] for first in range(0, len(order), batch_size)]


# The reference ------------------------------------------------------------------------------


def with_reference(
    corpus: PreferenceCorpus,
    model: GPT2Model,
    log_probabilities: LogProbabilities,
    run_dir: Path,
    runtime: Runtime,
    console: Console,
) -> PreferenceCorpus:
    """Returns the corpus with the reference from the run directory, or computed and put there.

    model: has the start weights, unless the run is resumed from a checkpoint.
    Raises FileNotFoundError where a run with checkpoints has lost its reference.
    """
    file, data = run_dir / REFERENCE_FILE, corpus.rows_sha256()
    reference = runtime.on_rank_zero(partial(read_reference, file, data))
    if reference is None:
        runtime.prepare(model)
        compute = partial(compute_reference, model, log_probabilities, runtime, console)
        end_of_text = corpus.tokenizer.end_of_text
        reference = {
            "train": compute(corpus.train, end_of_text),
            "validation": compute(corpus.validation, end_of_text),
        }
        write = partial(write_tensors, file, reference, {"data": data})
        runtime.on_rank_zero(write)
    return replace(
        corpus,
        train=replace(corpus.train, reference=reference["train"]),
        validation=replace(corpus.validation, reference=reference["validation"]),
    )


def read_reference(file: Path, data: str) -> dict[str, Tensor] | None:
    """Returns the reference of the pairs with a hash; None where a run has yet to compute it.

    Raises FileNotFoundError or ValueError where a run with checkpoints has lost or damaged it.
    """
    advice = "put it back, or start another run with --out"
    try:
        with safe_open(file, framework="pt") as opened:
            if (opened.metadata() or {}).get("data") == data:
                return {name: opened.get_tensor(name) for name in ("train", "validation")}
        reason = "is of other pairs"
    except FileNotFoundError:
        reason = "is missing"
    except SafetensorError as error:
        reason = f"is damaged ({error})"
    if has_checkpoint(file.parent):
        raise FileNotFoundError(
            f"{file} {reason}: the log-probabilities by the weights that {file.parent} began with; "
            f"{advice}"
        )
    return None


@torch.no_grad()
def compute_reference(
    model: GPT2Model,
    log_probabilities: LogProbabilities,
    runtime: Runtime,
    console: Console,
    pairs: Pairs,
    end_of_text: int,
) -> Tensor:
    """Returns the log-probabilities of both answers of each pair, (2n,) fp32 on the CPU.

    Each process computes its part of the batches.
    """
    model.eval()
    context_length = model.config.context_length
    batches = sorted_batches(pairs, max(1, TOKENS_AT_A_TIME // (2 * context_length)))
    reference = torch.zeros(len(pairs), 2)
    with Bar(console, "log-probabilities by the start weights", len(batches)) as bar:
        for done, numbers in enumerate(batches):
            if done % runtime.ranks.n_ranks == runtime.ranks.rank:
                _, *batch = pairs.batch(numbers, context_length, end_of_text)
                tokens, targets = map(runtime.to_device, batch)
                with runtime.autocast():
                    log_p = log_probabilities(model, tokens, targets)
                reference[numbers] = log_p.float().cpu().view(-1, 2)
            bar.move(done + 1)
    return runtime.all_reduce_sum(reference.flatten())
