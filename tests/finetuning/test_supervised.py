"""The loss of supervised finetuning, against the trainer's own and against transformers'."""

import pytest
import torch
from oracles.hugging_face import hugging_face_name, hugging_face_pair, turned
from torch import Tensor

from cfg_gpt2 import GPT2Config
from finetuning.supervised import supervised_loss
from gpt2 import GPT2Model
from loss import IGNORE_INDEX
from trainer import language_model_loss
from training.runtime import Batch

SIZES = GPT2Config(vocab_size=97, context_length=25, n_layer=2, n_head=2, n_embd=64, dropout=0.0)


def dialogue_rows() -> tuple[Tensor, Tensor]:
    """Returns 8 rows of tokens, (8, 25), and their labels: two answers a row, a padded end.

    The third row has no label, as a row has that a process gets for want of another.
    """
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(97, (8, 25), generator=generator)
    labels = tokens.clone()
    for row, (start, stop) in enumerate(zip(range(2, 10), range(14, 22), strict=True)):
        labels[row, :start] = labels[row, start + 3 : stop - row // 2] = IGNORE_INDEX
        labels[row, stop:] = IGNORE_INDEX
    labels[2] = IGNORE_INDEX
    return tokens, labels


def dialogue_batch() -> Batch:
    tokens, labels = dialogue_rows()
    return tokens[:, :-1], labels[:, 1:]


def gradients(model: GPT2Model) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    assert len(found) == len(list(model.parameters()))
    return found


def test_loss_and_gradients_are_those_of_transformers_with_labels_of_minus_100() -> None:
    ours, theirs = hugging_face_pair(SIZES)
    tokens, labels = dialogue_rows()
    expected = theirs(input_ids=tokens, labels=labels).loss
    expected.backward()
    total, count, metrics = supervised_loss(ours, dialogue_batch())
    (total / count).backward()
    assert metrics == {}
    assert count.item() == (labels[:, 1:] != IGNORE_INDEX).sum().item() > 20
    assert total.item() / count.item() == pytest.approx(expected.item(), rel=1e-6)
    of_theirs = {name: p.grad for name, p in theirs.named_parameters()}
    for name, gradient in gradients(ours).items():
        their_gradient = of_theirs[hugging_face_name(name)]
        assert their_gradient is not None
        torch.testing.assert_close(gradient, turned(name, their_gradient), atol=1e-5, rtol=0)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_it_is_the_trainers_loss_of_the_same_targets(precision: torch.dtype) -> None:
    ours, _ = hugging_face_pair(SIZES)
    results = []
    for loss_fn in (language_model_loss, supervised_loss):
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            total, count, _ = loss_fn(ours, dialogue_batch())
        total.backward()
        results.append([total.detach(), count, *gradients(ours).values()])
    # bf16 keeps 8 bits of each logit and of each gradient
    tolerance = 1e-5 if precision == torch.float32 else 2e-2
    for plain, scored in zip(*results, strict=True):
        error = (scored - plain).float().norm() / plain.float().norm()
        assert error <= tolerance


@pytest.mark.parametrize("n_parts", [2, 8])
def test_it_is_the_same_however_a_batch_is_cut(n_parts: int) -> None:
    ours, _ = hugging_face_pair(SIZES)
    batch = dialogue_batch()
    whole, n_targets, _ = supervised_loss(ours, batch)
    (whole / n_targets).backward()
    expected = gradients(ours)
    totals, counts = torch.zeros(()), torch.zeros((), dtype=torch.int64)
    for part in zip(*(tensor.chunk(n_parts) for tensor in batch), strict=True):
        total, count, _ = supervised_loss(ours, part)
        (total / n_targets).backward()
        totals, counts = totals + total.detach(), counts + count
    assert counts.item() == n_targets.item()
    assert totals.item() == pytest.approx(whole.item(), rel=1e-6)
    torch.testing.assert_close(gradients(ours), expected, atol=1e-6, rtol=1e-5)


def test_a_batch_without_targets_gives_zeros_and_a_gradient_of_zeros() -> None:
    ours, _ = hugging_face_pair(SIZES)
    tokens, targets = dialogue_batch()
    total, count, _ = supervised_loss(ours, (tokens, torch.full_like(targets, IGNORE_INDEX)))
    total.backward()
    assert (total.item(), count.item()) == (0, 0)
    assert not any(gradient.any() for gradient in gradients(ours).values())
