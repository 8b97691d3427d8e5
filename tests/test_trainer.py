"""trainer.py: exact sums, exact resumption, and a complete run directory."""

import json
import math
import os
import signal
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from oracles.small_run import (
    FP32,
    TRAIN,
    log_without_clock,
    new_trainer,
    printed,
    verse_corpus,
    weights,
)
from rich.console import Console

from cfg_gpt2 import DataConfig, GPT2Config, RunConfig, TrainConfig
from gpt2 import GPT2Model
from load_data import Corpus, load_corpus
from loss import IGNORE_INDEX
from multiheadattention import explicit_attention
from trainer import Batch, Trainer, language_model_loss
from training.choose_runtime import missing_compiler
from training.kernels import choose_kernels, use_kernels
from training.kernels.cross_entropy import VOCAB_MULTIPLE, fused_language_model_loss
from training.muon import Muon
from training.progress import MetricsLog
from training.runtime import Runtime
from training.schedule import learning_rate
from training.sums import Sums


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return verse_corpus(tmp_path_factory.mktemp("text"))


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_a_step_is_the_same_however_it_is_cut(
    corpus: Corpus, tmp_path: Path, micro_batch: int
) -> None:
    def uneven(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict]:
        tokens, targets = batch
        few = targets.masked_fill(tokens % 3 == 0, IGNORE_INDEX)  # counts differ between cuts
        return fused_language_model_loss(model, (tokens, few))

    whole = new_trainer(corpus, tmp_path / "whole", dropout=0.0, loss_fn=uneven)
    in_parts = replace(TRAIN, micro_batch=micro_batch)
    cut = new_trainer(corpus, tmp_path / "cut", in_parts, dropout=0.0, loss_fn=uneven)
    measured = [(whole.take_step(), cut.take_step()) for _ in range(2)]
    # sums in another order: some ulps of fp32, which AdamW's first steps can enlarge
    torch.testing.assert_close(weights(cut), weights(whole), atol=2e-5, rtol=0)
    for one, other in measured:
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-6)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_gradients_are_the_mean_loss_and_clipped_to_the_limit(
    corpus: Corpus, tmp_path: Path, optimizer: str
) -> None:
    def plain_steps(grad_clip: float) -> torch.Tensor:
        """The same three steps with torch's own loss, clipping and unfused optimizers."""
        plain = new_trainer(corpus, tmp_path, train, dropout=0.0)
        model = plain.model
        blocks = set(model.blocks.parameters()) if optimizer == "muon" else set()
        turned = [p for p in model.parameters() if p in blocks and p.dim() == 2]
        others = [p for p in model.parameters() if not (p in blocks and p.dim() == 2)]
        groups = [
            {"params": [p for p in others if p.dim() == 2], "weight_decay": 0.1},
            {"params": [p for p in others if p.dim() < 2], "weight_decay": 0.0},
        ]
        adamw = torch.optim.AdamW(groups, betas=(0.9, 0.95), foreach=False)
        muon = Muon(turned, weight_decay=0.1)
        for step in range(3):
            tokens, targets = plain.windows.batch(6 * step, 6)
            logits = model(tokens).flatten(0, 1)
            torch.nn.functional.cross_entropy(logits, targets.flatten()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
            for group in adamw.param_groups:
                group["lr"] = learning_rate(step, train)
            adamw.step()
            muon.step(learning_rate(step, train), torch.tensor(1.0))
            model.zero_grad()
        return weights(plain)

    train = replace(TRAIN, grad_clip=0.05, optimizer=optimizer)
    trainer = new_trainer(corpus, tmp_path, train, dropout=0.0)
    norms = [trainer.take_step()["grad_norm"] for _ in range(3)]
    assert min(norms) > 0.05
    # Other orders of summation: some ulps of fp32. Where they nearly cancel a gradient, AdamW's
    # first steps, each as long as the learning rate of 1e-2, can enlarge them: a hundredth of one.
    torch.testing.assert_close(weights(trainer), plain_steps(0.05), atol=1e-4, rtol=0)
    assert (weights(trainer) - plain_steps(1e9)).abs().max() > 1e-3  # unclipped is elsewhere


HANGUP = getattr(signal, "SIGHUP", signal.SIGINT)  # which Windows lacks


@pytest.mark.parametrize(("optimizer", "number"), [("adamw", signal.SIGINT), ("muon", HANGUP)])
def test_a_resumed_run_is_the_same_run_bit_for_bit(
    corpus: Corpus, tmp_path: Path, optimizer: str, number: int
) -> None:
    train = replace(TRAIN, optimizer=optimizer)
    straight = new_trainer(corpus, tmp_path / "straight", train)
    assert straight.train()

    calls = 0

    def interrupted(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict]:
        nonlocal calls
        calls += model.training
        if calls == 4:
            os.kill(os.getpid(), number)
        return fused_language_model_loss(model, batch)

    first = new_trainer(corpus, tmp_path / "resumed", train, loss_fn=interrupted)
    assert not first.train()
    assert first.stopped_by == number
    assert first.state.step == 4  # the step that was under way is finished
    torch.manual_seed(999)  # whatever another process would have drawn
    second = new_trainer(corpus, tmp_path / "resumed", train)
    second.state.resume()
    assert second.train()
    assert torch.equal(weights(second), weights(straight))
    assert log_without_clock(second) == log_without_clock(straight)


def test_a_stop_before_the_first_step_is_saved_and_resumed_too(
    corpus: Corpus, tmp_path: Path
) -> None:
    asked = False

    def interrupted(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict]:
        nonlocal asked
        if not asked:
            asked = True
            os.kill(os.getpid(), signal.SIGINT)
        return fused_language_model_loss(model, batch)

    straight = new_trainer(corpus, tmp_path / "straight")
    assert straight.train()
    first = new_trainer(corpus, tmp_path / "resumed", loss_fn=interrupted)
    assert not first.train()
    assert first.state.step == 0
    second = new_trainer(corpus, tmp_path / "resumed")
    second.state.resume()
    assert second.train()
    assert torch.equal(weights(second), weights(straight))
    assert log_without_clock(second) == log_without_clock(straight)


def test_lines_after_the_checkpoint_are_written_again_and_never_twice(
    corpus: Corpus, tmp_path: Path
) -> None:
    assert new_trainer(corpus, tmp_path).train()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 7, "train_loss": 9.0}) + '\n{"step": 8, "tr')
    longer = new_trainer(corpus, tmp_path, replace(TRAIN, max_steps=9))
    longer.state.resume()
    assert longer.train()
    assert [m["step"] for m in longer.state.log.read()] == list(range(10))


def test_training_lowers_the_loss_and_leaves_a_complete_run_directory(
    corpus: Corpus, tmp_path: Path
) -> None:
    longer = replace(TRAIN, max_steps=40, eval_every=20)
    trainer = new_trainer(corpus, tmp_path, longer, dropout=0.0)
    assert trainer.train()
    lines = MetricsLog(tmp_path).read()
    assert lines[0]["val_loss"] == pytest.approx(math.log(corpus.tokenizer.vocab_size), rel=0.03)
    assert lines[-1]["val_loss"] < 0.75 * lines[0]["val_loss"]
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    places = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert places == ["step-000020", "step-000040"]
    tokens, _ = trainer.windows.batch(0, 2)
    loaded = GPT2Model.load(tmp_path)
    use_kernels(loaded, choose_kernels(loaded.device, loaded.dtype))  # as the trained model has
    assert torch.equal(loaded(tokens), trainer.model.eval()(tokens))


def test_evaluation_counts_every_token_once(corpus: Corpus, tmp_path: Path) -> None:
    trainer = new_trainer(corpus, tmp_path)
    measured = trainer.evaluate()
    text = torch.from_numpy(corpus.validation.tokens[:].astype("int64"))
    nats = []
    trainer.model.eval()
    for start in range(0, len(text) - 1, 8):  # one long text: plain windows of the context length
        window, targets = text[start : start + 8], text[start + 1 : start + 9]
        with torch.no_grad():
            scores = trainer.model(window[None, : len(targets)])[0].log_softmax(-1)
        nats.append(-scores[range(len(targets)), targets].double())
    every = torch.cat(nats)
    assert len(every) == len(text) - 1
    assert measured["val_loss"] == pytest.approx(every.mean().item(), rel=1e-5)
    n_bytes = corpus.validation.n_bytes
    bits = every.sum().item() / math.log(2) / n_bytes
    assert measured["val_bits_per_byte"] == pytest.approx(bits, rel=1e-5)


def test_bf16_matmuls_give_the_fp32_loss_to_their_precision(corpus: Corpus, tmp_path: Path) -> None:
    bf16 = Runtime(torch.device("cpu"), torch.bfloat16)
    one = new_trainer(corpus, tmp_path, dropout=0.0).take_step()
    other = new_trainer(corpus, tmp_path, dropout=0.0, runtime=bf16).take_step()
    # 8 bits of mantissa: 2^-9 relative an operation, averaged over 48 targets
    assert other["train_loss"] == pytest.approx(one["train_loss"], rel=5e-3)


def test_further_sums_become_means_over_all_that_the_loss_counts(
    corpus: Corpus, tmp_path: Path
) -> None:
    def per_window(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Sums]:
        tokens, targets = batch
        total, n_targets, _ = language_model_loss(model, batch)
        n_windows = (targets != IGNORE_INDEX).any(1).sum()
        return total, n_windows, {"first": tokens[:, 0].sum(), "tokens": n_targets}

    no_text = replace(
        corpus,
        train=replace(corpus.train, n_bytes=0),
        validation=replace(corpus.validation, n_bytes=0),
    )
    trainer = new_trainer(
        no_text, tmp_path, replace(TRAIN, micro_batch=4, max_steps=1), loss_fn=per_window
    )
    tokens, targets = trainer.windows.batch(0, 6)
    assert trainer.train()
    before, after = trainer.state.log.read()
    n_targets = (targets != IGNORE_INDEX).sum().item()
    assert after["first"] == pytest.approx(tokens[:, 0].double().mean().item())
    assert after["tokens"] == n_targets > 40
    assert after["train_loss"] == pytest.approx(before["val_loss"], rel=0.2)  # nats per window
    assert after["train_loss"] > 8 * math.log(2)
    assert after["val_first"] == before["val_first"] > 0
    assert not [name for name in before | after if "bits" in name or name == "val_tokens"]
    line = f"validation loss {after['val_loss']:.4g} nats per token, first {after['val_first']:.4g}"
    assert line in printed(trainer)
    assert (tmp_path / "loss.png").exists()


def test_only_the_loss_unpacks_a_batch_and_publish_makes_the_published_weights(
    corpus: Corpus, tmp_path: Path
) -> None:
    class WithWeights:
        """Windows whose batches have a third tensor between tokens and targets."""

        def batch(self, first: int, count: int, step: int = 1) -> Batch:
            tokens, targets = plain.windows.batch(first, count, step)
            return tokens, torch.ones(tokens.shape), targets

        def epochs(self, n_windows: int) -> list[float]:
            return plain.windows.epochs(n_windows)

    def weighted(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict]:
        tokens, weight, targets = batch
        total, count, extra = language_model_loss(model, (tokens, targets))
        return total * weight.mean(), count, extra | {"weight": weight.mean() * count}

    def doubled(parameters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: 2 * parameter for name, parameter in parameters.items()}

    plain = new_trainer(corpus, tmp_path / "plain", dropout=0.0, loss_fn=language_model_loss)
    trainer = new_trainer(corpus, tmp_path / "other", dropout=0.0, loss_fn=weighted)
    trainer.micro_batches.windows = WithWeights()
    trainer.state.publish = doubled
    metrics = trainer.take_step()
    assert metrics["train_loss"] == plain.take_step()["train_loss"]
    assert metrics["weight"] == 1.0
    assert torch.equal(weights(trainer), weights(plain))
    trainer.state.log.append(metrics)
    trainer.state.save()
    trainer.state.background.wait()
    published = torch.cat(
        [p.detach().flatten() for p in GPT2Model.load(tmp_path / "other").parameters()]
    )
    assert torch.equal(published, 2 * weights(plain))


@pytest.mark.skipif(missing_compiler("cpu") is not None, reason="no C++ compiler here")
def test_compiled_blocks_train_as_eager_ones(corpus: Corpus, tmp_path: Path) -> None:
    as_written = new_trainer(corpus, tmp_path / "written", dropout=0.0)
    compiled = new_trainer(
        corpus, tmp_path / "compiled", dropout=0.0, runtime=replace(FP32, compiled=True)
    )
    names = list(as_written.model.state_dict())
    for _ in range(2):
        one, other = as_written.take_step(), compiled.take_step()
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-6)
    # the compiler adds in another order: some ulps of fp32, which AdamW's first steps enlarge
    torch.testing.assert_close(weights(compiled), weights(as_written), atol=2e-5, rtol=0)
    assert list(compiled.model.state_dict()) == names
    assert compiled.evaluate()["val_loss"] == pytest.approx(as_written.evaluate()["val_loss"])


def plain_losses(trainer: Trainer, n_steps: int) -> list[float]:
    """Returns the losses of the same run by explicit attention, torch's loss and plain AdamW."""
    matrices = [p for p in trainer.model.parameters() if p.dim() == 2]
    vectors = [p for p in trainer.model.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": trainer.config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    betas = trainer.config.beta1, trainer.config.beta2
    optimizer = torch.optim.AdamW(groups, betas=betas, foreach=False)
    size, losses = trainer.config.batch_size, []
    for step in range(n_steps):
        tokens, targets = trainer.windows.batch(step * size, size)
        with explicit_attention():
            logits = trainer.model(tokens).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), trainer.config.grad_clip)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, trainer.config)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.slow
@pytest.mark.skipif(missing_compiler("cpu") is not None, reason="no C++ compiler here")
def test_bf16_compiled_and_fused_training_learns_as_plain_fp32_does(tmp_path: Path) -> None:
    n_steps, n_seeds = 200, 4
    config = DataConfig(stories=2000, cache_dir=str(tmp_path))
    corpus = load_corpus(config)
    vocab_size = corpus.tokenizer.vocab_size
    assert vocab_size % VOCAB_MULTIPLE  # so that the padding is at work
    sizes = GPT2Config(
        vocab_size=vocab_size, context_length=128, n_layer=2, n_head=4, n_embd=64, dropout=0.0
    )

    def new(seed: int, runtime: Runtime) -> Trainer:
        train = TrainConfig(
            max_steps=n_steps, batch_size=8, learning_rate=3e-3, warmup_steps=20, seed=seed
        )
        torch.manual_seed(seed)
        run, console = RunConfig(model=sizes, train=train), Console(file=StringIO())
        return Trainer(
            GPT2Model(sizes), corpus, run, tmp_path, runtime, console, fused_language_model_loss
        )

    plain = torch.tensor([plain_losses(new(s, FP32), n_steps) for s in range(n_seeds)])
    fast_runtime = Runtime(torch.device("cpu"), torch.bfloat16, compiled=True)
    trainers = [new(s, fast_runtime) for s in range(n_seeds)]
    fast = torch.tensor([[t.take_step()["train_loss"] for _ in range(n_steps)] for t in trainers])
    # over 20 steps, so that it is the run that is compared and not the draw of a batch
    plain, fast = (curves.unflatten(1, (-1, 20)).mean(dim=2) for curves in (plain, fast))
    spread = plain.std(dim=0)
    distance = (fast - plain).abs().amax(dim=0)
    print("\nspread of seeds ", spread, "\nfast from plain ", distance)
    assert (distance < spread).all()
    assert plain[:, -1].max() < plain[:, 0].min() - 1  # something was learned
