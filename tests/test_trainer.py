"""trainer.py and training/: exact sums, exact resumption, and a loop that leaves what it says."""

import json
import math
import os
import signal
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Literal

import pytest
import torch
from oracles.small_run import (
    FP32,
    TRAIN,
    log_without_clock,
    new_trainer,
    said,
    verse_corpus,
    weights,
)
from rich.console import Console

from cfg_gpt2 import PRESETS, DataConfig, GPT2Config, RunConfig, TrainConfig
from gpt2 import GPT2Model
from load_data import Corpus, load_corpus
from loss import IGNORE_INDEX
from multiheadattention import explicit_attention
from trainer import Batch, Trainer, language_model_loss
from training.choose_runtime import choose_runtime, missing_compiler
from training.kernels import choose_kernels, use_kernels
from training.kernels.cross_entropy import VOCAB_MULTIPLE, fused_language_model_loss
from training.muon import MOMENTUM, Muon, newton_schulz
from training.optimizer import make_optimizers
from training.progress import MetricsLog
from training.runtime import Runtime
from training.schedule import learning_rate


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


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_is_the_same_run_bit_for_bit(
    corpus: Corpus, tmp_path: Path, optimizer: str
) -> None:
    train = replace(TRAIN, optimizer=optimizer)
    straight = new_trainer(corpus, tmp_path / "straight", train)
    assert straight.train()

    calls = 0

    def interrupted(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict]:
        nonlocal calls
        calls += model.training
        if calls == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return fused_language_model_loss(model, batch)

    first = new_trainer(corpus, tmp_path / "resumed", train, loss_fn=interrupted)
    assert not first.train()
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


def test_training_lowers_the_loss_and_leaves_a_whole_run_directory(
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


def test_bf16_products_give_the_fp32_loss_to_their_precision(
    corpus: Corpus, tmp_path: Path
) -> None:
    bf16 = Runtime(torch.device("cpu"), torch.bfloat16)
    one = new_trainer(corpus, tmp_path, dropout=0.0).take_step()
    other = new_trainer(corpus, tmp_path, dropout=0.0, runtime=bf16).take_step()
    # 8 bits of mantissa: 2^-9 relative an operation, averaged over 48 targets
    assert other["train_loss"] == pytest.approx(one["train_loss"], rel=5e-3)


def one_step(optimizer: str) -> tuple[GPT2Model, dict[str, torch.Tensor]]:
    """A model after one step from random gradients, and its weights before."""
    torch.manual_seed(0)
    model = GPT2Model(GPT2Config(vocab_size=11, context_length=4, n_layer=1, n_head=2, n_embd=8))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizers = make_optimizers(model, replace(TRAIN, optimizer=optimizer))
    assert len(optimizers) == (1 if optimizer == "adamw" else 2)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    for each in optimizers:
        each.step(TRAIN.learning_rate, torch.tensor(1.0))
    return model, before


def test_adamw_is_the_written_formula_and_decays_matrices_only() -> None:
    model, before = one_step("adamw")
    for name, parameter in model.named_parameters():
        g, w = parameter.grad, before[name]
        assert g is not None
        m, v = (1 - TRAIN.beta1) * g, (1 - TRAIN.beta2) * g * g
        corrected = m / (1 - TRAIN.beta1) / ((v / (1 - TRAIN.beta2)).sqrt() + 1e-8)
        decay = TRAIN.weight_decay if w.dim() == 2 else 0.0
        expected = w - TRAIN.learning_rate * (corrected + decay * w)
        torch.testing.assert_close(parameter.detach(), expected, atol=1e-6, rtol=1e-5)


def test_muon_turns_the_matrices_of_the_blocks_and_adamw_moves_the_rest() -> None:
    model, before = one_step("muon")
    adamw_model, _ = one_step("adamw")
    others = dict(adamw_model.named_parameters())
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2 or not name.startswith("blocks."):
            assert torch.equal(parameter, others[name])
            continue
        decayed = before[name] * (1 - TRAIN.learning_rate * TRAIN.weight_decay)
        step = (decayed - parameter.detach()) / (0.2 * max(parameter.shape) ** 0.5)
        singular = torch.linalg.svdvals(step / TRAIN.learning_rate)
        # Muon's polynomial brings singular values near 1, between 0.7 and 1.2 by its design
        assert singular.min() > 0.6 and singular.max() < 1.3


@pytest.mark.parametrize("shapes", [[(6, 4), (4, 6), (6, 4)], [(4, 4)], [(9, 3), (4, 6)]])
def test_muon_agrees_with_torchs_own(shapes: list[tuple[int, int]]) -> None:
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    one = Muon(ours, weight_decay=0.1, precision=torch.bfloat16)
    other = torch.optim.Muon(
        theirs, lr=0.1, weight_decay=0.1, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(3):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        one.step(0.1, torch.tensor(1.0))
        other.step()
    for p, q in zip(ours, theirs, strict=True):
        # both iterate in bf16, 2^-9 an operation; three steps of rms 0.02 in all
        torch.testing.assert_close(p, q, atol=2e-3, rtol=0)


def test_muon_lifts_singular_values_and_keeps_their_directions() -> None:
    torch.manual_seed(0)
    stack = torch.randn(5, 7, 16)
    u, _, v = torch.linalg.svd(stack, full_matrices=False)
    core = u.mT @ newton_schulz(stack) @ v.mT  # diagonal where the directions are kept
    values = core.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(core, torch.diag_embed(values), atol=1e-4, rtol=0)  # fp32
    # the polynomial holds singular values between 0.68 and 1.13, by Jordan's choice
    assert values.min() > 0.67 and values.max() < 1.14


def test_a_micro_batch_that_does_not_fit_is_halved_and_the_step_is_the_same(
    corpus: Corpus, tmp_path: Path
) -> None:
    def small_gpu(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict]:
        if model.training and len(batch[0]) > 2:
            torch.rand(())  # what dropout draws before memory ends
            raise torch.OutOfMemoryError
        return fused_language_model_loss(model, batch)

    short = new_trainer(corpus, tmp_path / "short", loss_fn=small_gpu)
    halved = short.take_step()
    assert short.micro_batches.size == 1  # 6, 3, 1
    assert "--train.micro-batch 3" in said(short)
    by_hand = new_trainer(corpus, tmp_path / "by_hand", replace(TRAIN, micro_batch=1))
    assert by_hand.take_step()["train_loss"] == halved["train_loss"]
    assert torch.equal(weights(by_hand), weights(short))


def test_a_window_that_does_not_fit_alone_ends_in_a_sentence(
    corpus: Corpus, tmp_path: Path
) -> None:
    def no_memory(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict]:
        raise torch.OutOfMemoryError

    with pytest.raises(ValueError, match="one window does not fit into memory: not even two"):
        new_trainer(corpus, tmp_path, loss_fn=no_memory).take_step()


def test_memory_that_ends_in_the_optimizer_does_not_repeat_the_step(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **settings: object) -> None:
        raise torch.OutOfMemoryError

    trainer = new_trainer(corpus, tmp_path)
    monkeypatch.setattr("trainer.step_optimizers", full)
    with pytest.raises(torch.OutOfMemoryError):
        trainer.take_step()
    assert trainer.micro_batches.size == 6


def test_a_resumed_run_reads_the_windows_of_its_position(corpus: Corpus, tmp_path: Path) -> None:
    trainer = new_trainer(corpus, tmp_path)
    first = trainer.micro_batches.at(0)
    trainer.micro_batches.prefetch(6)
    assert trainer.micro_batches.at(6) is trainer.micro_batches.at(6)  # read once
    for again, batch in zip(trainer.micro_batches.at(0), first, strict=True):
        assert all(map(torch.equal, again, batch))


def test_only_the_loss_unpacks_a_batch_and_publish_makes_the_published_weights(
    corpus: Corpus, tmp_path: Path
) -> None:
    class WithWeights:
        """Windows whose batches have a third tensor between tokens and targets."""

        def batch(self, first: int, count: int, step: int = 1) -> Batch:
            tokens, targets = plain.windows.batch(first, count, step)
            return tokens, torch.ones(tokens.shape), targets

    def weighted(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict]:
        tokens, weight, targets = batch
        total, count, extra = language_model_loss(model, (tokens, targets))
        return total * weight.mean(), count, extra | {"weight": weight.mean().item()}

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


def test_the_learning_rate_rises_linearly_and_falls_by_a_cosine() -> None:
    config = TrainConfig(max_steps=111, warmup_steps=10, learning_rate=1.0, final_learning_rate=0.1)
    rates = [learning_rate(step, config) for step in range(111)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    shorter = replace(config, max_steps=1, warmup_steps=0)
    assert learning_rate(0, shorter) == 1.0


def test_a_trapezoid_is_flat_and_then_falls_in_a_line() -> None:
    config = TrainConfig(
        max_steps=111, warmup_steps=10, learning_rate=1.0, final_learning_rate=0.1,
        schedule="trapezoid",
    )  # fmt: skip
    rates = [learning_rate(step, config) for step in range(111)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10:71] == [1.0] * 61
    assert rates[71:] == pytest.approx([1 - 0.9 * n / 40 for n in range(1, 41)])


def test_a_device_that_is_not_here_is_named() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ValueError, match=r"--train\.device cuda is not present here"):
        choose_runtime(TrainConfig(device="cuda"))


@pytest.mark.skipif(missing_compiler("cpu") is not None, reason="no C++ compiler here")
def test_compiled_blocks_are_the_written_ones(corpus: Corpus, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("compile_", ["auto", "on", "off"])
@pytest.mark.parametrize("missing", [None, "a C++ compiler"])
def test_what_is_compiled_is_said(
    monkeypatch: pytest.MonkeyPatch, compile_: Literal["auto", "on", "off"], missing: str | None
) -> None:
    monkeypatch.setattr("training.choose_runtime.missing_compiler", lambda device: missing)
    config = TrainConfig(device="cpu", compile=compile_)
    small, large = PRESETS["tiny"], PRESETS["gpt2"]
    if compile_ == "on" and missing:
        with pytest.raises(ValueError, match=r"--train\.compile on needs a C\+\+ compiler"):
            choose_runtime(config, small)
        return
    wanted = {"auto": (False, True), "on": (True, True), "off": (False, False)}[compile_]
    for sizes, wants in zip((small, large), wanted, strict=True):
        runtime = choose_runtime(config, sizes)
        assert runtime.compiled == (wants and not missing)
        assert ("compiled blocks" in runtime.describe()) == runtime.compiled
        assert ("compiling them needs a C++ compiler" in runtime.describe()) == (
            wants and bool(missing)
        )


def plain_losses(trainer: Trainer, n_steps: int) -> list[float]:
    """The trainer's run once more: the formula, torch's loss, fp32, eager, unfused AdamW."""
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
def test_bf16_compiled_padded_and_fused_learns_as_plain_fp32_does(tmp_path: Path) -> None:
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
