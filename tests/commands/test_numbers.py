"""Numbers of flags and of files that cannot be meant: refused before the work, in one sentence."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import main
from commands import generate
from training import least_memory

SMALL = (
    "--data.path text.txt --data.tokenizer char --data.cache-dir cache --model.n-layer 1 "
    "--model.n-head 2 --model.n-embd 16 --model.context-length 16 --train.max-steps 2 "
    "--train.batch-size 2 --train.warmup-steps 1 --train.device cpu"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and a run on it."""
    folder = tmp_path_factory.mktemp("numbers")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("text.txt").write_text("The hen asked why the drum was in the barn. " * 90)
        assert main.main(["train", "--out", "run", *SMALL.split()]) == 0
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may damage; the working directory."""
    copy = Path(shutil.copytree(trained, tmp_path / "copy"))
    monkeypatch.chdir(copy)
    monkeypatch.setattr(least_memory, "total_memory", lambda device: 16 * 10**9)
    monkeypatch.setattr(generate, "total_memory", lambda device: 10**8)
    return copy


def refused(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Returns the one sentence that a command ends with, without having begun to work."""
    before = sorted(path for path in Path().rglob("*") if "cache" not in path.parts)
    capsys.readouterr()
    assert main.main(line.split()) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert sorted(path for path in Path().rglob("*") if "cache" not in path.parts) == before
    return said.err


FLAGS = {
    "a batch of 10^9": (
        "train --train.batch-size 1000000000", "--train.batch-size 1000000000 takes at least",
    ),
    "a million layers": ("train --model.n-layer 1000000", "--model.n-layer 1000000 takes at least"),
    "a width of a million": ("train --model.n-embd 1000000", "at most --model.n-embd "),
    "a context of ten million": (
        "train --model.context-length 10000000", "--model.context-length 10000000 takes at least",
    ),
    "a context beyond all": ("train --model.context-length 1000000000", "at most 16777216"),
    "half a batch too large": (
        "train --preset gpt2 --train.device cpu --train.batch-size 512",
        "--train.micro-batch 512 takes at least 117.3 GB, cpu has 16.0 GB; at most --train.micro-",
    ),
    "10^12 stories": ("train --data.stories 1000000000000", "--data.stories 1000000000000 must be"),
    "a seed of 70 bits": (f"train --train.seed {2**70}", f"--train.seed {2**70} must be at least"),
    "a seed that samples cannot have": (f"train --train.seed {2**63}", "9223372036854775807"),
    "an infinite rate": ("train --train.learning-rate inf", "--train.learning-rate inf must be"),
    "a rate that is none": ("train --train.learning-rate nan", "--train.learning-rate nan must"),
    "a limit that is none": ("train --train.grad-clip nan", "--train.grad-clip nan must be a num"),
    "an infinite decay": ("train --train.weight-decay inf", "--train.weight-decay inf must be"),
    "a plan of a huge context": (
        "plan --preset gpt2 --model.context-length 1000000000000", "--model.context-length 1000000",
    ),
    "a plan of 10^15 layers": ("plan --model.n-layer 1000000000000000", "at most 16777216"),
    "a plan that fits nowhere": ("plan --model.n-layer 16777216 --gpu h100", "needs"),
    "samples without end": ("generate run --samples 1000000000", "--samples 1000000000 must be at"),
    "samples beyond the memory": (
        "generate run --samples 100000", "--samples 100000 with --beams 1 takes at least 204 MB",
    ),
    "rows beyond the memory": (
        "evaluate run --data.path text.txt --batch-size 1000000000", "--batch-size 1000000000 take",
    ),
    "a batch of 2^70": (f"evaluate run --batch-size {2**70}", "must be at most 1000000000"),
    "workers without end": ("prepare --data.path text.txt --workers 1000000000 --out s", "at most"),
    "shards without end": (f"prepare --data.path a.txt --shard-tokens {10**400} --out s", "at mo"),
    "guesses without end": (f"generate run --guesses {10**400}", "must be at most 1000000000"),
    "10^400 GPUs": (f"plan --gpus {10**400}", "must be at most 1000000; leave it out"),
    "more tokens than there are": ("plan --tokens 1e300", "must be a number above 0, up to 1e18"),
    "rounds without end": (f"benchmark loading --rounds {2**70}", "must be at most 1000000000"),
    "beams without end": ("generate run --temperature 0 --beams 1000000000", "must be at most"),
}  # fmt: skip


@pytest.mark.parametrize(("line", "words"), FLAGS.values(), ids=FLAGS)
def test_a_flag_that_cannot_be_meant_is_refused_before_the_work(
    line: str, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line += " --out new" if line.startswith("train") else ""
    assert words in refused(line, capsys)
    assert not Path("new").exists() and not Path("data").exists()


def changed(file: str, change: Callable[[dict], object]) -> Callable[[], None]:
    """Returns a function that changes the values in a JSON file."""

    def write() -> None:
        values = json.loads(Path(file).read_text())
        change(values)
        Path(file).write_text(json.dumps(values))

    return write


def written(file: str, data: bytes) -> Callable[[], object]:
    return lambda: Path(file).write_bytes(data)


def with_weights(value: float) -> Callable[[], None]:
    """Returns a function that puts a value into the weights of the run."""

    def write() -> None:
        weights = load_file("run/model.safetensors")
        weights["final_norm.weight"] = torch.full_like(weights["final_norm.weight"], value)
        save_file(weights, "run/model.safetensors")

    return write


DEEP = b"[" * 100_000
CONFIG, METRICS = "run/config.json", "run/metrics.jsonl"
RESUME = "train --resume run --train.max-steps 4"
FILES = {
    "a deep config": (written(CONFIG, DEEP), "generate run", "config.json is not JSON: nested mo"),
    "a deep config to plan": (written(CONFIG, DEEP), "plan --config run", "is not JSON: nested mo"),
    "a width of 10^18": (
        changed(CONFIG, lambda c: c["model"].update(n_embd=10**18)), "generate run",
        "config.json cannot be used: model: --model.n-embd 1000000000000000000 must be at least 1",
    ),
    "more layers than tensors": (
        changed(CONFIG, lambda c: c["model"].update(n_layer=10**7)), "generate run",
        "tensors, too few for 10000000 blocks",
    ),
    "more layers than tensors to resume": (
        changed(CONFIG, lambda c: c["model"].update(n_layer=10**7)),
        RESUME, "--model.n-layer 10000000 takes at least",
    ),
    "a context that the file has not": (
        changed(CONFIG, lambda c: c["model"].update(context_length=10**7)), "generate run",
        "model.safetensors cannot be read",
    ),
    "a config of transformers": (
        written(CONFIG, b'{"model_type": "gpt2"}'), "evaluate run", "python main.py import run",
    ),
    "nan weights": (with_weights(math.nan), "generate run", "logits: its training has diverged"),
    "nan weights, the most likely": (
        with_weights(math.nan), "generate run --temperature 0", "logits: its training has diverged",
    ),
    "nan weights, beams": (
        with_weights(math.inf), "generate run --temperature 0 --beams 3", "training has diverged",
    ),
    "nan weights, guesses": (
        with_weights(math.nan), "generate run --prompt-lookup", "its training has diverged",
    ),
    "nan weights, quantized": (
        with_weights(math.nan), "quantize run", "model gives nan as its loss: its training has div",
    ),
    "infinite weights, evaluated": (
        with_weights(math.inf), "evaluate run --data.path text.txt", "training has diverged",
    ),
    "a line without a step": (
        written(METRICS, b'{"train_loss": 1.0}\n'), RESUME,
        "metrics.jsonl, line 1, has no step, a whole number; remove that line",
    ),
    "a step in words": (
        written(METRICS, b'{"step": 0}\n{"step": "two"}\n'), RESUME,
        "metrics.jsonl, line 2, has no number for step",
    ),
    "a line in CP1251": (
        written(METRICS, b'\xff\xfe\n'), RESUME, "metrics.jsonl, line 1, is not JSON",
    ),
    "a deep line": (
        written(METRICS, DEEP + b"\n"), RESUME, "line 1, is not JSON: nested mo",
    ),
    "an infinite loss": (
        written(METRICS, b'{"step": 1, "val_loss": 1e999}\n'), "doctor run", "number for val_loss",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "line", "words"), FILES.values(), ids=FILES)
def test_a_file_that_cannot_be_meant_is_refused_by_name(
    damage: Callable[[], object],
    line: str,
    words: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage()
    assert words in refused(line, capsys)


def test_a_training_that_diverges_says_so_and_saves_no_nan(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = "--train.learning-rate 1000 --train.weight-decay 0.001 --train.grad-clip 0"
    line = f"train --out wild {SMALL} {flags} --train.max-steps 12 --train.optimizer adamw"
    status = main.main(line.split())
    said = capsys.readouterr().err
    if status == 0:  # finite, however bad
        assert all(w.isfinite().all() for w in load_file("wild/model.safetensors").values())
    else:
        assert (status, said.count("\n")) == (2, 1)
        assert "try --train.learning-rate 3.3e+02" in said


def test_a_checkpoint_that_is_too_deep_does_not_hide_the_whole_one_before_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = Path("run/checkpoints/step-000003")
    shutil.copytree("run/checkpoints/step-000002", newest)
    (newest / "checkpoint.json").write_bytes(DEEP)
    assert main.main(["train", "--resume", "run", "--train.max-steps", "3"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "step-000003 is damaged (it is not JSON: nested more" in said
    assert json.loads(Path(METRICS).read_text().splitlines()[-1])["step"] == 3
