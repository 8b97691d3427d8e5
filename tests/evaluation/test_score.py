"""The score of a text, against transformers window by window."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles.hugging_face import hugging_face_pair
from torch import Tensor, nn
from torch.nn import functional as F

from cfg_gpt2 import PRESETS, GPT2Config
from evaluation.score import rows_per_batch, score_text
from evaluation.windows import window_batches
from finetuning.supervised import supervised_loss
from gpt2 import GPT2Model
from load_data import Split
from loss import IGNORE_INDEX
from tokenizer import Tokenizer
from training.runtime import Runtime

CPU = Runtime(torch.device("cpu"), torch.float32)
SHARED = Path(__file__).resolve().parents[3] / "shared"
SHAKESPEARE = SHARED / "corpora" / "tinyshakespeare.txt"
needs_shared = pytest.mark.skipif(
    not SHAKESPEARE.exists(), reason="the corpora lie outside the repository, in ../shared"
)
TOLERANCE = 1e-4  # in nats per token; fp32 rounding in logits of some units is a tenth of it


def direct_losses(
    theirs: nn.Module, ids: Tensor, context_length: int, stride: int
) -> list[tuple[float, int]]:
    """Returns (nats, targets scored) of each window, by the common recipe for transformers."""
    results, scored_until = [], 0
    for begin in range(0, len(ids), stride):
        end = min(begin + context_length, len(ids) - 1)  # of the inputs; targets are shifted by one
        with torch.no_grad():
            logits = theirs(ids[None, begin:end]).logits[0]
        losses = F.cross_entropy(logits, ids[begin + 1 : end + 1], reduction="none")
        new = losses[scored_until - begin :]
        results.append((new.double().sum().item(), len(new)))
        scored_until = end
        if end == len(ids) - 1:
            return results
    raise AssertionError("the windows do not reach the end")


def assert_equal_window_by_window(config: GPT2Config, ids: list[int], strides: list[int]) -> None:
    """ids is one document between two end-of-text tokens."""
    ours, theirs = hugging_face_pair(config)
    split = Split(np.array(ids, dtype=np.uint16), 1000)
    for stride in strides:
        direct = direct_losses(theirs, torch.tensor(ids), config.context_length, stride)
        batches = window_batches(split, config.context_length, stride, 1, ids[0])
        with torch.inference_mode():
            own = [supervised_loss(ours, batch)[:2] for batch in batches]
        # windows are bucketed by length, and the last one may be shorter
        alone = sorted((int(count), nats.item() / int(count)) for nats, count in own)
        direct_means = sorted((count, nats / count) for nats, count in direct)
        for (n, loss), (count, expected) in zip(alone, direct_means, strict=True):
            assert n == count
            assert loss == pytest.approx(expected, abs=TOLERANCE)
        score = score_text(ours, split, ids[0], stride, CPU, lambda done: None)
        assert score.n_windows == len(direct)
        assert score.n_tokens == len(ids) - 1
        assert score.loss == pytest.approx(sum(n for n, _ in direct) / score.n_tokens, abs=1e-5)
        assert score.bits_per_byte == pytest.approx(score.nats / math.log(2) / 1000)
        assert score.perplexity == pytest.approx(math.exp(score.nats / score.n_tokens))


def test_losses_at_every_stride_equal_those_of_transformers() -> None:
    config = GPT2Config(
        vocab_size=97, context_length=64, n_layer=2, n_head=2, n_embd=32, dropout=0.0
    )
    ids = [96, *torch.randint(96, (300,), generator=torch.manual_seed(1)).tolist(), 96]
    assert_equal_window_by_window(config, ids, [64, 63, 32, 16, 7])


def shakespeare(n_tokens: int | None) -> list[int]:
    tokenizer = Tokenizer.from_gpt2(SHARED / "gpt2_vocab")
    text = SHAKESPEARE.read_text(encoding="utf-8")
    ids = tokenizer.encode(text if n_tokens is None else text[: 8 * n_tokens])[:n_tokens]
    return [tokenizer.end_of_text, *ids, tokenizer.end_of_text]


@needs_shared
def test_losses_on_shakespeare_at_three_strides_equal_those_of_transformers() -> None:
    config = GPT2Config(n_layer=1, n_head=2, n_embd=16, dropout=0.0)
    assert_equal_window_by_window(config, shakespeare(1700), [1024, 512, 256])


@needs_shared
@pytest.mark.slow
def test_losses_on_all_of_shakespeare_equal_those_of_transformers() -> None:
    config = GPT2Config(n_layer=2, n_head=2, n_embd=32, dropout=0.0)
    assert_equal_window_by_window(config, shakespeare(None), [1024, 512, 256])


@needs_shared
@pytest.mark.slow
def test_losses_of_full_size_gpt2_equal_those_of_transformers() -> None:
    assert_equal_window_by_window(PRESETS["gpt2"], shakespeare(6000), [1024, 512, 256])


def small_model() -> tuple[GPT2Model, Split]:
    config = GPT2Config(
        vocab_size=50, context_length=16, n_layer=1, n_head=1, n_embd=8, dropout=0.5
    )
    ours, _ = hugging_face_pair(config)
    stream = torch.randint(50, (200,), generator=torch.manual_seed(2)).tolist()
    return ours, Split(np.array([7, *stream, 7], dtype=np.uint16), 100)


def test_the_batch_size_does_not_change_the_score() -> None:
    model, split = small_model()
    scores = [
        score_text(model, split, 7, 5, CPU, lambda done: None, batch_size=size)
        for size in (None, 1, 3, 100)
    ]
    assert [score.nats for score in scores] == pytest.approx([scores[0].nats] * 4, rel=1e-6)
    assert len({(score.n_tokens, score.n_windows) for score in scores}) == 1


def test_reported_progress_rises_to_all_tokens() -> None:
    model, split = small_model()
    reported: list[int] = []
    score_text(model, split, 7, 5, CPU, reported.append, batch_size=4)
    assert reported == sorted(set(reported)) and reported[-1] == len(split.tokens) - 1


def test_only_scored_positions_take_the_output_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = small_model()
    rows = []

    def counted(hidden_states: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        rows.append(hidden_states.shape[:2].numel())
        return torch.zeros(()), (targets != IGNORE_INDEX).sum()

    monkeypatch.setattr("training.kernels.cross_entropy.linear_cross_entropy", counted)
    score = score_text(model, split, 7, 3, CPU, lambda done: None)
    assert sum(rows) == score.n_tokens == len(split.tokens) - 1


def test_a_model_that_gives_nan_is_refused() -> None:
    model, split = small_model()
    with torch.no_grad():
        model.final_norm.weight[0] = math.nan
    with pytest.raises(ValueError, match="nan for probabilities: its training has diverged"):
        score_text(model, split, 7, 16, CPU, lambda done: None)


def test_a_batch_has_as_many_rows_as_the_device_needs() -> None:
    assert rows_per_batch(1024, CPU) == 4
    assert rows_per_batch(100_000, CPU) == 1
    assert rows_per_batch(1024, Runtime(torch.device("cuda"), torch.float32)) == 64
