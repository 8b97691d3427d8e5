"""The text that a base model was trained on: replayed while it learns to answer, and measured.

    bits per byte of the text  before  and  after:  what the model has forgotten

Previous: dialogues.py.  Next: labelled_data.py.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from cfg_gpt2 import require
from commands.train import corpus_with_bar
from finetuning.dialogues import Replay, bytes_per_token
from gpt2 import GPT2Model
from load_data import Corpus
from loss import IGNORE_INDEX, bits_per_byte
from run_directory.config_file import own_data, read_config
from tokenizer import Tokenizer
from training.kernels import choose_kernels, use_kernels
from training.kernels.cross_entropy import fused_language_model_loss

REPLAY_SHARE = 0.1  # of the learned tokens, where --replay is not given
BASE_TEXT_METRIC = "base_bits_per_byte"  # in metrics.jsonl, at step 0 and at the last one
BATCH_SIZE, MAX_TOKENS = 32, 100_000  # of the validation text that is measured


@dataclass(frozen=True)
class BaseText:
    """The text of a base model, or the reason why it is not at hand."""

    corpus: Corpus | None
    reason: str = ""


def open_base_text(run_dir: Path, tokenizer: Tokenizer, console: Console) -> BaseText:
    """Opens the text that config.json of a run names, in the run's own tokens."""
    try:
        corpus = corpus_with_bar(own_data(run_dir), console)
        require(
            corpus.tokenizer.to_json() == tokenizer.to_json(),
            f"the text of {run_dir} is not in the tokens of its model any more",
        )
    except (ValueError, OSError) as error:
        return BaseText(None, str(error).partition("; ")[0])  # its advice is for other commands
    return BaseText(corpus)


def replay_of(text: BaseText, run_dir: Path, share: float | None) -> Replay | None:
    """Returns the windows of the base's text that finetuning reads again; None for a share of 0.

    Where no share is asked for, a text that is not at hand counts as a share of 0. Raises
    ValueError where one is asked for and the text is not at hand.
    """
    corpus, config = text.corpus, read_config(run_dir)
    if share == 0 or (share is None and corpus is None):
        return None
    if corpus is None:
        raise ValueError(f"--replay {share} is not possible: {text.reason}; leave --replay out")
    order = corpus.windows(config.model.context_length, config.train.seed).order
    lengths = [order.window(number).length for number in range(256)]
    mean = sum(lengths) / len(lengths)
    return Replay(order, REPLAY_SHARE if share is None else share, mean, corpus.sha256())


@torch.no_grad()
def measure(run_dir: Path, corpus: Corpus, device: torch.device) -> float:
    """Returns the bits per byte that a run's model needs for the validation text of a corpus.

    Of a long text the first MAX_TOKENS are measured.
    """
    model = GPT2Model.load(run_dir).to(device)
    use_kernels(model, choose_kernels(model.device, model.dtype))
    sizes = torch.from_numpy(bytes_per_token(corpus.tokenizer))
    nats, n_bytes, n_tokens = 0.0, 0, 0
    for tokens, targets in corpus.evaluation_batches(model.config.context_length, BATCH_SIZE):
        loss, count, _ = fused_language_model_loss(model, (tokens.to(device), targets.to(device)))
        nats, n_tokens = nats + float(loss), n_tokens + int(count)
        n_bytes += int(sizes[targets[targets != IGNORE_INDEX]].sum())
        if n_tokens >= MAX_TOKENS:
            break
    return bits_per_byte(nats, n_bytes)
