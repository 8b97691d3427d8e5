"""training/guard.py: harmful steps are skipped, and several in a row are rolled back."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from oracles.small_run import TRAIN, log_without_clock, new_trainer, printed, verse_corpus, weights

from gpt2 import GPT2Model
from load_data import Corpus
from trainer import Batch, LossFunction
from training.guard import SPIKE, WARM_UP, Guard
from training.kernels.cross_entropy import fused_language_model_loss
from training.sums import Sums

LONG = replace(TRAIN, max_steps=12, eval_every=4)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return verse_corpus(tmp_path_factory.mktemp("text"))


def spoiled(when: Callable[[int], bool], factor: float) -> LossFunction:
    """Returns the usual loss, multiplied by a factor in those training calls that `when` names."""
    n_calls = 0

    def loss(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Sums]:
        nonlocal n_calls
        total, count, extra = fused_language_model_loss(model, batch)
        n_calls += model.training
        return total * (factor if model.training and when(n_calls) else 1.0), count, extra

    return loss


@pytest.mark.parametrize("factor", [math.nan, math.inf])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_without_a_finite_loss_is_skipped(
    corpus: Corpus, tmp_path: Path, optimizer: str, factor: float
) -> None:
    train = replace(LONG, optimizer=optimizer)
    trainer = new_trainer(corpus, tmp_path, train, loss_fn=spoiled(lambda call: call == 3, factor))
    trainer.take_step()
    trainer.take_step()
    before = weights(trainer)
    memory = [
        value.clone()
        for each in trainer.optimizers
        for state in each.state.values()
        for value in state.values()
    ]
    n_tokens = trainer.state.tokens
    noted = trainer.take_step()
    assert noted["skipped"] is True
    # the step counts, and its windows are read
    assert trainer.state.step == 3 and trainer.state.position == 18
    assert trainer.state.tokens == n_tokens
    assert torch.equal(weights(trainer), before)
    after = [
        value
        for each in trainer.optimizers
        for state in each.state.values()
        for value in state.values()
    ]
    assert all(map(torch.equal, after, memory))
    assert "skipped" not in trainer.take_step()
    assert not torch.equal(weights(trainer), before)


def test_a_step_whose_gradient_is_not_finite_is_skipped_under_a_finite_loss_too(
    corpus: Corpus, tmp_path: Path
) -> None:
    trainer = new_trainer(corpus, tmp_path)
    before = weights(trainer)
    trainer.model.final_norm.weight.register_hook(lambda gradient: gradient * math.inf)
    noted = trainer.take_step()
    assert math.isfinite(noted["train_loss"]) and noted["skipped"]
    assert torch.equal(weights(trainer), before)


def test_the_log_stays_json_and_records_skipped_steps(corpus: Corpus, tmp_path: Path) -> None:
    trainer = new_trainer(corpus, tmp_path, loss_fn=spoiled(lambda call: call == 2, math.nan))
    assert trainer.train()

    def refuse(word: str) -> None:
        raise AssertionError(word)

    text = (tmp_path / "metrics.jsonl").read_text()
    lines = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    assert [line["step"] for line in lines if line.get("skipped")] == [2]
    assert "train_loss" not in lines[2] and "learning_rate" in lines[2]
    assert "step     2  the loss or the gradient is not finite: not taken" in printed(trainer)


def test_five_bad_steps_in_a_row_roll_back_and_continue_with_other_windows(
    corpus: Corpus, tmp_path: Path
) -> None:
    trainer = new_trainer(
        corpus, tmp_path, LONG, loss_fn=spoiled(lambda call: 6 <= call <= 10, math.nan)
    )
    assert trainer.train()
    assert "5 steps up to 10 had no finite loss" in printed(trainer)
    assert "back to step 4, and on with other windows" in printed(trainer)
    lines = trainer.state.log.read()
    assert [line["step"] for line in lines] == list(range(13))
    assert [line["step"] for line in lines if "rolled_back_from" in line] == [5]
    assert lines[5]["rolled_back_from"] == 10
    assert not any("skipped" in line for line in lines)
    assert trainer.state.position == 6 * (12 + 6)  # steps 5 to 10 read windows too
    # the same by hand: four steps, then eight with the windows from step 10 on
    by_hand = new_trainer(corpus, tmp_path / "hand", LONG)
    for step in range(12):
        if step == 4:
            by_hand.state.position = 60
        by_hand.take_step()
    assert torch.equal(weights(by_hand), weights(trainer))


def test_a_second_roll_back_to_the_same_checkpoint_ends_in_a_sentence(
    corpus: Corpus, tmp_path: Path
) -> None:
    trainer = new_trainer(corpus, tmp_path, LONG, loss_fn=spoiled(lambda call: call > 5, math.nan))
    with pytest.raises(ValueError, match=r"from step 4 on for the second time; try --train\.learn"):
        trainer.train()
    assert (tmp_path / "checkpoints" / "step-000004").is_dir()
    early = new_trainer(corpus, tmp_path / "early", loss_fn=spoiled(lambda call: True, math.nan))
    with pytest.raises(ValueError, match="there is no checkpoint to go back to; try"):
        early.train()


def test_a_checkpoint_amid_bad_steps_is_resumed_from_but_not_rolled_back_to(
    corpus: Corpus, tmp_path: Path
) -> None:
    """Steps 7 to 11 are bad, and 8 is saved between them."""
    straight = new_trainer(
        corpus, tmp_path / "straight", LONG, loss_fn=spoiled(lambda c: 7 <= c <= 11, math.nan)
    )
    assert straight.train()
    assert "back to step 4" in printed(straight)
    short = replace(LONG, max_steps=9, final_learning_rate=LONG.learning_rate, warmup_steps=0)
    first = new_trainer(
        corpus, tmp_path / "two", short, loss_fn=spoiled(lambda c: 7 <= c <= 11, math.nan)
    )
    assert first.train()
    assert first.state.guard.state.n_bad == 3
    long = replace(short, max_steps=12)
    second = new_trainer(corpus, tmp_path / "two", long, loss_fn=spoiled(lambda c: c < 3, math.nan))
    second.state.resume()
    assert second.state.guard.state.n_bad == 3
    assert second.train()
    assert "back to step 4" in printed(second)
    assert [line["step"] for line in second.state.log.read()] == list(range(13))


def test_a_spike_is_logged_and_taken_unless_spikes_are_to_be_skipped(
    corpus: Corpus, tmp_path: Path
) -> None:
    train = replace(TRAIN, max_steps=40, eval_every=40)
    trainers = []
    for skip_spikes in (None, 8.0):
        loss = spoiled(lambda call: call == 30, 100.0)
        trainer = new_trainer(
            corpus,
            tmp_path / str(skip_spikes),
            replace(train, skip_spikes=skip_spikes),
            loss_fn=loss,
        )
        assert trainer.train()
        trainers.append(trainer)
    taken, skipped = (log_without_clock(trainer) for trainer in trainers)
    assert [line["step"] for line in taken if "spike" in line] == [30]
    assert taken[30]["spike"] > 20 and "skipped" not in taken[30]
    assert taken[:30] == skipped[:30]
    assert skipped[30]["skipped"] and skipped[30]["tokens"] == skipped[29]["tokens"]
    assert [line["step"] for line in skipped if "skipped" in line] == [30]
    assert "standard deviations above its running mean: not taken" in printed(trainers[1])


def test_healthy_losses_do_not_spike_and_a_spike_does_not_hide_the_next_one() -> None:
    luck = random.Random(0)
    guard = Guard(None)
    for step in range(1000):  # a curve that falls from 8 to 3, with a batch noise of 0.1
        loss = 3 + 5 * math.exp(-step / 100) + luck.gauss(0, 0.1)
        assert guard.check(loss, 1.0) == {}
    assert guard.state.mean == pytest.approx(3.0, abs=0.1)
    assert math.sqrt(guard.state.variance) == pytest.approx(0.1, rel=0.5)
    z = guard.check(10.0, 1.0)["spike"]
    assert z == pytest.approx(70, rel=0.5)
    assert guard.check(10.0, 1.0)["spike"] > SPIKE  # one spike does not make the next usual
    assert guard.check(3.0, 1.0) == {}


def test_the_first_losses_are_checked_only_for_being_finite() -> None:
    guard = Guard(3.0)
    for step in range(WARM_UP):
        assert guard.check(1.0 if step % 2 else 50.0, 1.0) == {}
    assert guard.check(math.nan, 1.0) == {"skipped": True}
    assert guard.check(1.0, math.inf) == {"skipped": True}
    assert guard.state.n_bad == 2
    assert guard.check(20.0, 1.0) == {} and guard.state.n_bad == 0


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_weights_without_a_finite_validation_loss_are_never_saved(
    corpus: Corpus, tmp_path: Path, loss: float
) -> None:
    def diverges(from_step: int) -> LossFunction:
        def loss_fn(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Sums]:
            total, count, extra = fused_language_model_loss(model, batch)
            bad = not model.training and trainer.state.step >= from_step
            return total * (loss if bad else 1), count, extra

        return loss_fn

    trainer = new_trainer(corpus, tmp_path / "late", LONG, loss_fn=diverges(8))
    with pytest.raises(ValueError) as caught:
        trainer.train()
    sentence = f"diverged: after step 8 the validation loss is {loss}; the weights of step 4 are"
    assert sentence in str(caught.value) and "try --train.learning-rate 0.0033" in str(caught.value)
    places = [path.name for path in (tmp_path / "late" / "checkpoints").iterdir()]
    assert places == ["step-000004"]
    trainer = new_trainer(corpus, tmp_path / "early", LONG, loss_fn=diverges(4))
    with pytest.raises(ValueError, match=r"after step 4 .*; nothing was saved; try"):
        trainer.train()
    assert not (tmp_path / "early" / "model.safetensors").exists()
    trainer = new_trainer(corpus, tmp_path / "at once", LONG, loss_fn=diverges(0))
    with pytest.raises(ValueError, match="before the first step: the weights that the training"):
        trainer.train()
