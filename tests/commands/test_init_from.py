"""`train --init-from RUN`: begins where RUN stands, and refuses what does not fit its weights."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import main
from gpt2 import GPT2Model
from load_data import evaluation_batches, load_corpus
from loss import next_token_loss
from run_directory.config_file import read_config
from tokenizer import Tokenizer

SMALL = "--model.n-layer 1 --model.n-embd 16 --model.n-head 2 --model.context-length 16"
SHORT = "--train.max-steps 4 --train.batch-size 4 --train.eval-every 2 --train.precision fp32"
VERSE = "The cat sat on the mat and the dog lay on the log. " * 40
PROSE = "A dog lay on the mat; the cat sat there and the log was on the mat. " * 40


def run(line: str) -> int:
    return main.main(line.split())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bpe run, a character run and several texts."""
    folder = tmp_path_factory.mktemp("init_from")
    (folder / "verse.txt").write_text(VERSE, encoding="utf-8")
    (folder / "prose.txt").write_text(PROSE, encoding="utf-8")
    (folder / "russian.txt").write_text("Мама мыла раму, а кот спал. " * 60, encoding="utf-8")
    before = Path.cwd()
    os.chdir(folder)
    vocabulary = "--data.path verse.txt --data.vocab-size 280"
    assert run(f"train {vocabulary} --out base {SMALL} {SHORT}") == 0
    characters = "--data.path verse.txt --data.tokenizer char"
    assert run(f"train {characters} --out letters {SMALL} {SHORT}") == 0
    os.chdir(before)
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, entered."""
    shutil.copytree(prepared, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def metrics(run_dir: str) -> list[dict[str, float]]:
    lines = Path(run_dir, "metrics.jsonl").read_text().splitlines()
    timed = ("seconds", "tokens_per_second")
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in lines]


def loss_of(run_dir: str, settings_of: str) -> float:
    """Nats per token that a run's model pays for the validation text of another run's settings."""
    config = read_config(Path(settings_of))
    corpus, model = load_corpus(config.data), GPT2Model.load(run_dir)
    nats, count = 0.0, 0
    with torch.inference_mode():
        for tokens, targets in evaluation_batches(
            corpus.validation, config.model.context_length, 4, corpus.tokenizer.end_of_text
        ):
            total, n_targets = next_token_loss(model(tokens), targets)
            nats, count = nats + total.item(), count + int(n_targets)
    return nats / count


def test_the_first_evaluation_is_that_of_the_run_it_begins_from(folder: Path) -> None:
    assert run(f"train --init-from base --data.path prose.txt --out new {SHORT}") == 0
    assert metrics("new")[0]["val_loss"] == pytest.approx(loss_of("base", "new"), rel=1e-6)
    assert metrics("new")[-1]["val_loss"] < metrics("new")[0]["val_loss"]
    assert Path("new/tokenizer.json").read_bytes() == Path("base/tokenizer.json").read_bytes()
    config = read_config(Path("new"))
    assert config.model == read_config(Path("base")).model
    assert config.init_from is not None and config.init_from.run == "base"


def test_optimizer_schedule_and_data_are_the_new_runs_own(folder: Path) -> None:
    flags = "--train.optimizer muon --train.learning-rate 1e-2 --model.dropout 0.2"
    assert run(f"train --init-from base --data.path prose.txt --out new {SHORT} {flags}") == 0
    config = read_config(Path("new"))
    assert config.train.optimizer == "muon" and config.train.learning_rate == 1e-2
    assert config.data.path == ("prose.txt",) and config.model.dropout == 0.2


def test_a_shorter_context_keeps_the_first_positions(folder: Path) -> None:
    flags = "--model.context-length 8 --train.learning-rate 1e-9 --train.final-learning-rate 1e-9"
    assert run(f"train --init-from base --data.path prose.txt --out new {SHORT} {flags}") == 0
    name = "position_embedding.weight"
    base, new = load_file("base/model.safetensors"), load_file("new/model.safetensors")
    torch.testing.assert_close(new[name], base[name][:8], rtol=0, atol=1e-6)


def test_a_resumed_run_is_bit_for_bit_the_one_that_never_stopped(folder: Path) -> None:
    """The learning rate is constant, so that the schedule does not depend on the last step."""
    rate = "--train.learning-rate 1e-3 --train.final-learning-rate 1e-3 --train.warmup-steps 0"
    start = f"train --init-from base --data.path prose.txt {SHORT} {rate}"
    assert run(f"{start} --out whole --train.max-steps 6") == 0
    assert run(f"{start} --out halves --train.max-steps 4") == 0
    origin = read_config(Path("halves")).init_from
    shutil.rmtree("base")  # a run with a checkpoint needs it no longer
    assert run("train --resume halves --train.max-steps 6") == 0
    assert read_config(Path("halves")).init_from == origin
    assert metrics("whole")[1:5] == metrics("halves")[1:5]
    weights = [Path(name, "model.safetensors").read_bytes() for name in ("whole", "halves")]
    assert weights[0] == weights[1]


def test_a_run_stopped_before_its_first_checkpoint_begins_from_the_same_weights(
    folder: Path,
) -> None:
    assert run(f"train --init-from base --data.path prose.txt --out new {SHORT}") == 0
    first = metrics("new")
    shutil.rmtree("new/checkpoints")
    Path("new/model.safetensors").unlink()
    assert run("train --resume new") == 0
    assert metrics("new") == first


def test_a_base_that_has_changed_since_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"train --init-from base --data.path prose.txt --out new {SHORT}") == 0
    shutil.rmtree("new/checkpoints")
    Path("new/model.safetensors").unlink()
    shutil.copy("letters/model.safetensors", "base/model.safetensors")
    assert run("train --resume new") == 2
    assert "the weights of base have changed since this run began" in capsys.readouterr().err


def test_a_model_with_more_ids_than_its_tokenizer_keeps_them(folder: Path) -> None:
    """Imported models may have padded embeddings."""
    config = json.loads(Path("base/config.json").read_text())
    config["model"]["vocab_size"] = 320
    shutil.copytree("base", "padded")
    Path("padded/config.json").write_text(json.dumps(config))
    model = GPT2Model(read_config(Path("padded")).model)
    model.save("padded")
    assert run(f"train --init-from padded --data.path prose.txt --out new {SHORT}") == 0
    assert GPT2Model.load("new").config.vocab_size == 320
    assert Tokenizer.load("new").vocab_size == Tokenizer.load("base").vocab_size


def test_a_text_that_the_tokenizer_hardly_fits_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"train --init-from base --data.path russian.txt --out new {SHORT}") == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "the tokenizer of base hardly fits this text: 1.0 bytes per token" in words


def test_prepared_shards_in_the_same_tokens_are_taken_and_others_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare = "prepare --data.path prose.txt --data.validation-share 0.1"
    if run(f"{prepare} --data.tokenizer base --out shards") != 0:
        pytest.fail(capsys.readouterr().err)
    assert run(f"{prepare} --data.vocab-size 270 --out others") == 0
    assert run(f"train --init-from base --data.path shards --out new {SHORT}") == 0
    capsys.readouterr()
    assert run(f"train --init-from base --data.path others --out newer {SHORT}") == 2
    said = capsys.readouterr().err
    assert "another tokenizer" in said and "prepare the text with --data.tokenizer base" in said


WRONG = {
    "no run": ("--init-from nothing", "nothing does not exist; name a run directory"),
    "a run without weights": ("--init-from weightless", "model.safetensors does not exist"),
    "a longer context": (
        "--init-from base --model.context-length 32",
        "--model.context-length 32 is longer than the 16 positions that base was trained for",
    ),
    "another width": ("--init-from base --model.n-embd 32", "--model.n-embd 32 does not fit"),
    "another depth": ("--init-from base --model.n-layer 2", "which have 1; leave it out"),
    "other heads": ("--init-from base --model.n-head 4", "--model.n-head 4 does not fit"),
    "another tokenizer": (
        "--init-from base --data.tokenizer char",
        "another tokenizer's tokens than base was trained on; leave out --data.tokenizer",
    ),
    "a vocabulary size": ("--init-from base --data.vocab-size 300", "--data.vocab-size 300"),
    "a preset as well": (
        "--init-from base --preset gpt2",
        "--preset and --init-from exclude each other",
    ),
    "a run to resume as well": (
        "--init-from base --resume base",
        "--resume and --init-from exclude each other",
    ),
    "characters that the base does not know": (
        "--init-from letters --data.path russian.txt",
        "the weights of letters know no others; train without --init-from",
    ),
    "an out that holds a run": ("--init-from base --out base", "--out base already holds a run"),
}


@pytest.mark.parametrize(("flags", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_use_ends_with_one_sentence(
    flags: str, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree("base", "weightless", ignore=shutil.ignore_patterns("*.safetensors"))
    names = sorted(path.name for path in folder.iterdir())
    path = "" if "--data.path" in flags else "--data.path prose.txt"
    assert run(f"train {flags} {path} {SHORT}") == 2
    said = capsys.readouterr().err
    assert words in said and said.startswith("error: ") and said.count("\n") == 1
    left = {path.name for path in folder.iterdir()} - {"data"}
    assert left == set(names) - {"data"}
