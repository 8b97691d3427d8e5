"""Several processes train as one process does, up to the rounding of sums in another order."""

import json
import os
import shutil
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from oracles.ports import free_ports
from oracles.small_run import verse_corpus
from rich.console import Console
from safetensors.torch import load_file

import training.sharded_checkpoint
from cfg_gpt2 import GPT2Config, RunConfig, TrainConfig
from finetuning.supervised import supervised_loss
from gpt2 import GPT2Model
from loss import IGNORE_INDEX
from trainer import Trainer
from training.checkpoint import RECORD_FILE
from training.choose_runtime import choose_runtime, missing_compiler
from training.kernels.cross_entropy import fused_language_model_loss
from training.progress import Metrics, MetricsLog
from training.runtime import Batch, LossFunction, Ranks, Runtime
from training.sums import Sums

TRAIN = TrainConfig(
    max_steps=6,
    batch_size=5,
    micro_batch=2,
    eval_every=3,
    warmup_steps=2,
    learning_rate=1e-2,
    device="cpu",
    precision="fp32",
    compile="off",
    keep_checkpoints=9,
)  # fmt: skip  5 windows are no multiple of 2 or 4: one process has less to do
SIZES = GPT2Config(
    vocab_size=1, context_length=8, n_layer=2, n_head=2, n_embd=18, dropout=0.0
)  # fmt: skip  18 is no multiple of 4: shards of unequal size


@dataclass(frozen=True)
class Case:
    """A run that one process and several take in the same way."""

    out: str
    train: TrainConfig = TRAIN
    resumes: str = ""  # the run whose checkpoint it resumes
    step: int = 3  # of that checkpoint
    dropout: float = 0.0
    loss_fn: LossFunction = fused_language_model_loss


def train(case: Case, folder: Path, ranks: Ranks) -> None:
    """Trains in this process, together with the others of its group."""
    runtime = choose_runtime(case.train, SIZES, ranks)
    with runtime.process_group():
        corpus = runtime.local_rank_zero_first(lambda: verse_corpus(folder))
        sizes = replace(SIZES, vocab_size=corpus.tokenizer.vocab_size, dropout=case.dropout)
        torch.manual_seed(1)
        trainer = Trainer(
            GPT2Model(sizes),
            corpus,
            RunConfig(model=sizes, train=case.train),
            folder / case.out,
            runtime,
            Console(file=StringIO()),
            case.loss_fn,
        )
        if case.resumes:
            copy = partial(go_back, folder / case.resumes, folder / case.out, case.step)
            runtime.on_rank_zero(copy)
            trainer.state.resume()
            assert trainer.state.step == case.step
        runtime.on_rank_zero(lambda: (folder / case.out).mkdir(exist_ok=True))
        assert trainer.train()


def few_targets_loss(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Sums]:
    """The loss of finetuning where few tokens are learned, and of some windows none."""
    tokens, targets = batch
    ignored = (tokens % 5 != 0) | (tokens[:, :1] % 3 == 0)
    return supervised_loss(model, (tokens, targets.masked_fill(ignored, IGNORE_INDEX)))


def go_back(run: Path, copy: Path, step: int) -> None:
    """Copies a run as it was after a step."""
    shutil.copytree(run, copy)
    for place in (copy / "checkpoints").glob("step-*"):
        if int(place.name[5:]) > step:
            shutil.rmtree(place)


def work(rank: int, n_ranks: int, ports: list[int], folder: Path, cases: list[Case]) -> None:
    """Trains all cases, one after the other, as one of several processes."""
    torch.set_num_threads(1)
    for port, case in zip(ports, cases, strict=True):
        os.environ |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "RANK": str(rank),
            "WORLD_SIZE": str(n_ranks),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(n_ranks),
        }
        train(case, folder, Ranks.read(os.environ))


def together(n_ranks: int, folder: Path, cases: list[Case]) -> None:
    """Runs the cases in several processes; an error in one of them is raised here."""
    arguments = (n_ranks, free_ports(len(cases)), folder, cases)
    torch.multiprocessing.spawn(work, arguments, nprocs=n_ranks)


def alone(folder: Path, case: Case) -> None:
    train(case, folder, Ranks())


def assert_same(one: Path, other: Path, tolerance: float = 1e-5) -> None:
    """Asserts equal metrics.jsonl and weights; Adam enlarges differences of weights."""
    lines, other_lines = MetricsLog(one).read(), MetricsLog(other).read()
    assert len(lines) == len(other_lines) > 6
    for line, other_line in zip(lines, other_lines, strict=True):
        for metrics in (line, other_line):
            drop_clock(metrics)
        assert line == pytest.approx(other_line, abs=tolerance), (one, other)
    weights, others = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    for name in weights if tolerance else ():
        if name.endswith("qkv_proj.bias"):
            # a bias of the keys adds the same to all scores of a query: its gradient is 0 but for
            # rounding, and Adam makes steps of full size of whatever is not 0
            for bias in (weights[name], others[name]):
                bias.chunk(3)[1].zero_()
    torch.testing.assert_close(weights, others, atol=5 * tolerance, rtol=0)


def drop_clock(metrics: Metrics) -> None:
    for name in ("seconds", "tokens_per_second"):
        metrics.pop(name, None)


DDP, FSDP = (replace(TRAIN, strategy=strategy) for strategy in ("ddp", "fsdp"))


def test_two_processes_train_save_and_resume_as_one_does(tmp_path: Path) -> None:
    muon, bf16 = {"optimizer": "muon"}, {"precision": "bf16", "activation_checkpointing": True}
    alone(tmp_path, Case("adamw"))
    alone(tmp_path, Case("muon", replace(TRAIN, **muon)))
    alone(tmp_path, Case("bf16", replace(TRAIN, precision="bf16")))
    together(
        2,
        tmp_path,
        [
            Case("ddp-adamw", DDP),
            Case("fsdp-adamw", FSDP),
            Case("fsdp-muon", replace(FSDP, **muon)),
            Case("fsdp-bf16", replace(FSDP, **bf16)),
            Case("fsdp-from-one", FSDP, resumes="adamw"),
            Case("fsdp-from-ddp", FSDP, resumes="ddp-adamw"),
            Case("dropout", replace(FSDP), dropout=0.1),
            Case("dropout-again", replace(FSDP), dropout=0.1, resumes="dropout"),
        ],
    )
    alone(tmp_path, Case("one-from-fsdp", resumes="fsdp-adamw"))
    alone(tmp_path, Case("one-from-muon", replace(TRAIN, **muon), resumes="fsdp-muon"))
    for name in ("ddp-adamw", "fsdp-adamw", "fsdp-from-one", "fsdp-from-ddp", "one-from-fsdp"):
        assert_same(tmp_path / name, tmp_path / "adamw")
    for name in ("fsdp-muon", "one-from-muon"):
        assert_same(tmp_path / name, tmp_path / "muon")
    # norms are gathered as bf16, 2^-9 relative; the rest is autocast's arithmetic
    assert_same(tmp_path / "fsdp-bf16", tmp_path / "bf16", tolerance=5e-3)
    assert_same(tmp_path / "dropout-again", tmp_path / "dropout", tolerance=0)  # bit for bit


@pytest.mark.slow
@pytest.mark.parametrize("n_ranks", [2, 4])
def test_fifty_steps_of_several_processes_are_those_of_one(tmp_path: Path, n_ranks: int) -> None:
    long = {"max_steps": 50, "eval_every": 25, "batch_size": 9, "learning_rate": 3e-3}
    alone(tmp_path, Case("one", replace(TRAIN, **long)))
    together(
        n_ranks,
        tmp_path,
        [
            Case("ddp", replace(DDP, **long)),
            Case("fsdp", replace(FSDP, **long)),
        ],
    )
    assert_same(tmp_path / "ddp", tmp_path / "one")
    assert_same(tmp_path / "fsdp", tmp_path / "one")
    assert_same(tmp_path / "fsdp", tmp_path / "ddp")


@pytest.mark.slow
def test_a_process_whose_windows_have_no_target_takes_its_part(tmp_path: Path) -> None:
    alone(tmp_path, Case("one", loss_fn=few_targets_loss))
    together(
        2,
        tmp_path,
        [
            Case("ddp", DDP, loss_fn=few_targets_loss),
            Case("fsdp", FSDP, loss_fn=few_targets_loss),
        ],
    )
    assert_same(tmp_path / "ddp", tmp_path / "one")
    assert_same(tmp_path / "fsdp", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_processes_and_one_resume_what_four_have_saved(tmp_path: Path, optimizer: str) -> None:
    long = {"optimizer": optimizer, "max_steps": 9}
    fsdp, one = replace(FSDP, **long), replace(TRAIN, **long)
    alone(tmp_path, Case("straight", one))
    together(4, tmp_path, [Case("four", fsdp)])
    together(2, tmp_path, [Case("two", fsdp, resumes="four")])
    alone(tmp_path, Case("one", one, resumes="four"))
    alone(tmp_path, Case("one-from-two", one, resumes="two", step=6))  # which two have written
    for name in ("four", "two", "one", "one-from-two"):
        assert_same(tmp_path / name, tmp_path / "straight")
    wrote = [
        json.loads((tmp_path / name / "checkpoints" / f"step-{step:06d}" / RECORD_FILE).read_text())
        for name, step in (("four", 3), ("two", 6), ("one-from-two", 9))
    ]
    assert [record["n_ranks"] for record in wrote] == [4, 2, 1]


def work_on_own_disk(
    rank: int, n_ranks: int, ports: list[int], folder: Path, cases: list[Case]
) -> None:
    """Does the work of `work` in a folder of its own, as on a host with its own disk."""
    own = folder / f"host-{rank}"
    own.mkdir()
    os.chdir(own)
    training.sharded_checkpoint.PATIENCE = 0.1
    work(rank, n_ranks, ports, Path(), cases)


@pytest.mark.slow
def test_a_checkpoint_with_a_part_on_another_disk_is_discarded(tmp_path: Path) -> None:
    with pytest.raises(torch.multiprocessing.ProcessRaisedException) as error:
        torch.multiprocessing.spawn(
            work_on_own_disk, (2, free_ports(1), tmp_path, [Case("run", FSDP)]), nprocs=2
        )
    assert "the part of process 1 is not to be seen by the first one" in str(error.value)
    assert not list((tmp_path / "host-0").glob("run/checkpoints/*"))


@pytest.mark.slow
@pytest.mark.skipif(missing_compiler("cpu") is not None, reason="no C++ compiler here")
def test_compiled_blocks_train_as_eager_ones_in_several_processes_too(tmp_path: Path) -> None:
    alone(tmp_path, Case("one"))
    together(
        2,
        tmp_path,
        [
            Case(
                f"{train.strategy}-{recompute}",
                replace(
                    train,
                    compile="on",
                    activation_checkpointing=recompute,
                ),
            )
            for train in (DDP, FSDP)
            for recompute in (False, True)
        ],
    )
    for name in ("ddp-False", "ddp-True", "fsdp-False", "fsdp-True"):
        assert_same(tmp_path / name, tmp_path / "one")


# One process --------------------------------------------------------------------------------


def test_activation_checkpointing_keeps_less_and_changes_nothing(tmp_path: Path) -> None:
    twice = replace(TRAIN, activation_checkpointing=True)
    alone(tmp_path, Case("kept", dropout=0.1))
    alone(tmp_path, Case("twice", twice, dropout=0.1))
    assert_same(tmp_path / "twice", tmp_path / "kept", tolerance=0)

    def kept_bytes(config: TrainConfig) -> int:
        sizes = replace(SIZES, vocab_size=9, n_layer=6)
        model = choose_runtime(config, sizes).prepare(GPT2Model(sizes))
        seen: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            seen[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.hidden_states(torch.zeros(4, 8, dtype=torch.int64))
        return sum(seen.values())

    assert kept_bytes(twice) < kept_bytes(TRAIN) / 3


def test_a_strategy_for_several_processes_needs_torchrun() -> None:
    for strategy in ("ddp", "fsdp"):
        with pytest.raises(ValueError, match=f"strategy {strategy} is for processes that torchrun"):
            choose_runtime(replace(TRAIN, strategy=strategy))
    ranks = Ranks(rank=1, n_ranks=2, local_rank=1, n_local=2, from_torchrun=True)
    with pytest.raises(ValueError, match="torchrun has started 2; leave torchrun out"):
        choose_runtime(replace(TRAIN, strategy="single"), ranks=ranks)
    assert type(choose_runtime(TRAIN)) is Runtime
    assert "2 processes, the model in each (ddp)" in choose_runtime(TRAIN, ranks=ranks).describe()
