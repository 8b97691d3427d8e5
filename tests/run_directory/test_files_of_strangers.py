"""Every file that is read, with thousands of changes: a sentence, or it is read; never more."""

import io
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from oracles.fuzzing import files_like, opened_files
from rich.console import Console
from safetensors.torch import load_file, save_file

import main
from cfg_gpt2 import DataConfig
from data.shards import ends_sha256, index_text, read_index
from diagnostics.doctor.curve import diagnose, read_run
from evaluation.measure_task import TASKS
from gpt2 import GPT2Model
from load_data import load_corpus
from preparation.jobs import LinesJob
from preparation.shard_writer import Preparation
from preparation.worker_process import Counts
from pretrained.import_command import import_folder
from pretrained.model_card import last_metrics
from run_directory.files import sha256
from tokenizer import Tokenizer
from training.checkpoint import Checkpoints
from training.progress import MetricsLog

resource = pytest.importorskip("resource", reason="Windows does not say how large a process was")
N_SLOW, N_FAST = 10_000, 30
MAX_SECONDS, MAX_BYTES = 10.0, 10**9
TEXT = "The hen asked why the drum was in the barn. " * 30
SMALL = (
    "--data.path text.txt --data.tokenizer char --data.cache-dir cache --model.n-layer 1 "
    "--model.n-head 2 --model.n-embd 8 --model.context-length 8 --train.max-steps 2 "
    "--train.batch-size 2 --train.warmup-steps 1 --train.eval-every 1 --train.device cpu"
)
LINES = "".join(json.dumps({"id": n, "text": f"The hen {n} asked."}) + "\n" for n in range(5))
IDENTITY = [1, ["text", 1.5], ["bpe", 300], 1000]
SILENT = Console(file=io.StringIO(), quiet=True)


@dataclass(frozen=True)
class Reader:
    """A file, its kind, and what reads it; paths are below the folder of `strangers`."""

    file: str
    kind: str
    read: Callable[[Path], object]


def read_shards(folder: Path) -> None:
    load_corpus(DataConfig(path=(str(folder / "shards"),))).windows(8, seed=1).batch(0, 8)


def read_tokens(folder: Path) -> None:
    """The index is right for the shard, whatever is in it."""
    shards = folder / "shards"
    before, file = (shards / "index.json").read_bytes(), shards / "train-00000.bin"
    index = read_index(shards)
    size = file.stat().st_size
    shard = replace(
        index.train[0], tokens=max(1, size // 2), bytes=max(1, size), documents=1,
        sha256=sha256(file), ends_sha256=ends_sha256(file),
    )  # fmt: skip
    (shards / "index.json").write_text(index_text(replace(index, train=[shard])))
    try:
        corpus = load_corpus(DataConfig(path=(str(shards),)))
        tokens, _ = corpus.windows(8, seed=1).batch(0, 8)
        assert int(tokens.max()) < corpus.tokenizer.vocab_size
    finally:
        (shards / "index.json").write_bytes(before)


def read_checkpoints(folder: Path) -> None:
    path, record = Checkpoints(folder / "run", 2, lambda line: None).newest()
    assert (path.name, record.step) in (("step-000001", 1), ("step-000002", 2))


def read_progress(folder: Path) -> None:
    part = Path(shutil.copytree(folder / "part", folder / "part-copy"))
    try:
        new_preparation(part).resume()
    finally:
        shutil.rmtree(part)


def read_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer.load(folder / "bpe")
    tokenizer.decode(tokenizer.encode("The hen asked."))


def read_metrics(folder: Path) -> None:
    MetricsLog(folder / "run", writes=False).keep_until(1)
    last_metrics(folder / "run" / "metrics.jsonl")
    diagnose(read_run(folder / "run"))


def read_lines(folder: Path) -> None:
    file = folder / "lines.jsonl"
    job = LinesJob(path=str(file), start=0, stop=10**6, field="text", validation_share=0.5)
    for _ in job.passages():
        pass


def read_model(folder: Path) -> None:
    with torch.inference_mode():
        GPT2Model.load(folder / "run")(torch.tensor([[0, 1]]))


def read_text(folder: Path) -> None:
    data = DataConfig(
        path=(str(folder / "other.txt"),), tokenizer="char", cache_dir=str(folder / "text-cache")
    )
    try:
        load_corpus(data)
    finally:
        shutil.rmtree(folder / "text-cache", ignore_errors=True)


def read_cache(folder: Path) -> None:
    data = DataConfig(
        path=(str(folder / "text.txt"),), tokenizer="char", cache_dir=str(folder / "kept")
    )
    load_corpus(data).windows(8, seed=1).batch(0, 8)


def imports(name: str, folder: Path) -> None:
    try:
        import_folder(folder / name, folder / "imported", SILENT)
    finally:
        shutil.rmtree(folder / "imported", ignore_errors=True)


def read_items(folder: Path) -> None:
    TASKS["lambada"].read(folder / "lines.jsonl", None)


READERS = {
    "config.json": Reader("run/config.json", "json", read_model),
    "model.safetensors": Reader("run/model.safetensors", "safetensors", read_model),
    "tokenizer.json": Reader("bpe/tokenizer.json", "json", read_tokenizer),
    "metrics.jsonl": Reader("run/metrics.jsonl", "lines", read_metrics),
    "checkpoint.json": Reader(
        "run/checkpoints/step-000002/checkpoint.json", "json", read_checkpoints
    ),
    "tensors.safetensors": Reader(
        "run/checkpoints/step-000002/tensors.safetensors", "safetensors", read_checkpoints
    ),
    "index.json": Reader("shards/index.json", "json", read_shards),
    "tokens of a shard": Reader("shards/train-00000.bin", "bytes", read_tokens),
    "progress.json": Reader("part/progress.json", "json", read_progress),
    "meta.json": Reader("kept/*/meta.json", "json", read_cache),
    "JSONL to prepare": Reader("lines.jsonl", "lines", read_lines),
    "JSONL to evaluate": Reader("lines.jsonl", "lines", read_items),
    "text": Reader("other.txt", "bytes", read_text),
    "config.json of transformers": Reader("hf/config.json", "json", partial(imports, "hf")),
    "safetensors of transformers": Reader(
        "hf/model.safetensors", "safetensors", partial(imports, "hf")
    ),
    "index of weights": Reader(
        "sharded/model.safetensors.index.json", "json", partial(imports, "sharded")
    ),
    "pytorch_model.bin": Reader("bin/pytorch_model.bin", "bytes", partial(imports, "bin")),
    "generation_config.json": Reader("hf/generation_config.json", "json", partial(imports, "hf")),
    "tokenizer_config.json": Reader("hf/tokenizer_config.json", "json", partial(imports, "hf")),
    "tokenizer.json of transformers": Reader("hf/tokenizer.json", "json", partial(imports, "hf")),
}


def new_preparation(folder: Path) -> Preparation:
    return Preparation(folder, IDENTITY, np.dtype("<u2"), shard_tokens=1000)


def make_shards(folder: Path) -> None:
    """Makes a prepared folder, and one that was stopped on its way."""
    part = folder / "part"
    part.mkdir()
    tokenizer = Tokenizer.train([TEXT], 300)
    tokenizer.save(part)
    preparation = new_preparation(part)
    ids = np.array([tokenizer.end_of_text, *tokenizer.encode(TEXT * 8)], "<u2")
    counts = Counts(tokens=len(ids), documents=1, bytes=len(TEXT) * 8)
    for position in (1, 2):
        encoded = {split: (counts, ids.tobytes()) for split in ("train", "validation")}
        preparation.write(position, 100, encoded)
    preparation.save()
    shutil.copytree(part, folder / "shards")
    shards = new_preparation(folder / "shards")
    shards.resume()
    shards.finish(tokenizer.end_of_text, ["a test"])


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every kind of file that is read, all of them whole."""
    folder = tmp_path_factory.mktemp("strangers") / "inside"
    folder.mkdir()
    (folder.parent / "outside").write_text("nobody reads this")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("text.txt", "other.txt"):
            Path(name).write_text(TEXT)
        Path("lines.jsonl").write_text(LINES)
        assert main.main(["train", "--out", "run", *SMALL.split()]) == 0
        assert main.main(["export", "run", "--out", "hf"]) == 0
    Path(folder / "bpe").mkdir()
    Tokenizer.train([TEXT], 280).save(folder / "bpe")
    make_shards(folder)
    read_cache(folder)
    weights = load_file(folder / "hf" / "model.safetensors")
    for name in ("sharded", "bin"):
        shutil.copytree(folder / "hf", folder / name)
        (folder / name / "model.safetensors").unlink()
    save_file(weights, folder / "sharded" / "model-00001-of-00001.safetensors")
    index = {"weight_map": dict.fromkeys(weights, "model-00001-of-00001.safetensors")}
    (folder / "sharded" / "model.safetensors.index.json").write_text(json.dumps(index))
    torch.save(weights, folder / "bin" / "pytorch_model.bin")
    return folder


def peak_bytes() -> int:
    """Returns the largest size that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def require_survival(reader: Reader, folder: Path) -> None:
    """Reads once: in time, inside the folder, and with no error but those that `main` prints."""
    started = time.perf_counter()
    with opened_files() as opened:
        try:
            reader.read(folder)
        except (ValueError, OSError) as error:
            assert not isinstance(error, UnicodeError), "names no file"
            assert str(error) and len(str(error)) < 3_000
    assert time.perf_counter() - started < MAX_SECONDS
    outside = [p for p in opened if folder.parent in p.parents and folder not in p.parents]
    assert outside == [] and Path("/etc/passwd") not in opened


@pytest.mark.parametrize("name", READERS)
def test_whole_files_are_read(name: str, strangers: Path) -> None:
    READERS[name].read(strangers)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("n", [N_FAST, pytest.param(N_SLOW, marks=pytest.mark.slow)])
def test_a_changed_file_is_read_or_ends_in_a_sentence(name: str, n: int, strangers: Path) -> None:
    reader = READERS[name]
    [file] = strangers.glob(reader.file)
    valid, before = file.read_bytes(), peak_bytes()

    @settings(max_examples=n, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(files_like(valid, reader.kind))
    def read(data: bytes) -> None:
        file.write_bytes(data)
        require_survival(reader, strangers)

    try:
        read()
    finally:
        file.write_bytes(valid)
    assert peak_bytes() - before < MAX_BYTES
