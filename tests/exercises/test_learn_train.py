"""The learner's parts in the real model: equal losses, a witness, weights that the root reads."""

import json
from pathlib import Path

import pytest
import torch
from oracles.right_answers import RIGHT

import main
from cfg_gpt2 import DataConfig, GPT2Config, RunConfig
from exercises.assemble import TOLERANCE, Mine, calling, largest_gap, put_in, side_by_side
from exercises.catalogue import EXERCISES, load_exercise
from exercises.exercise import Exercise
from exercises.source import module_of, twin
from gpt2 import GPT2Model
from load_data import Corpus, load_corpus
from loss import next_token_loss
from run_directory.config_file import read_config
from training.choose_runtime import is_faster_in_bf16

VERSE = "Мама мыла раму, the cat sat on the mat. " * 60
SIZES = GPT2Config(vocab_size=64, context_length=24, n_layer=2, n_head=2, n_embd=16, dropout=0.0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("verse")
    (folder / "verse.txt").write_text(VERSE, encoding="utf-8")
    data = DataConfig(
        path=(str(folder / "verse.txt"),), tokenizer="char", cache_dir=str(folder / "cache")
    )
    return load_corpus(data)


def mine(name: str, label: str | None = None) -> Mine:
    exercise = load_exercise(name)
    text = RIGHT[name][label or next(iter(RIGHT[name]))]
    return Mine(exercise, getattr(module_of(text, "mine", "mine"), exercise.part.__name__))


@pytest.mark.parametrize(
    "names", [*([name] for name in EXERCISES), ["gelu", "layer-norm", "attention"]]
)
def test_twenty_steps_with_a_learners_part_have_the_losses_of_the_original(
    names: list[str], corpus: Corpus
) -> None:
    losses = side_by_side(RunConfig(model=SIZES), corpus, [mine(name) for name in names])
    assert len(losses) == 20 and losses[-1][0] < losses[0][0]
    assert largest_gap(losses) <= TOLERANCE


def test_a_wrong_part_is_seen_in_twenty_steps(corpus: Corpus) -> None:
    exercise: Exercise = load_exercise("attention")
    part = twin(exercise, exercise.mistake("unscaled"))
    assert part
    losses = side_by_side(RunConfig(model=SIZES), corpus, [Mine(exercise, part)])
    assert largest_gap(losses) > 10 * TOLERANCE


def test_the_witness_counts_the_learners_part_and_not_the_root_files() -> None:
    model = GPT2Model(SIZES)
    names = [name for name, _ in model.named_parameters()]
    tokens = torch.zeros(1, 5, dtype=torch.long)
    expected = model(tokens)
    parts = [mine("attention"), mine("layer-norm")]
    witness = put_in(model, parts)
    with calling(parts):
        logits = model(tokens)
    assert witness.mine == {"attention": 2, "layer-norm": 5}
    assert witness.root == {"attention": 0, "layer-norm": 0}
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)  # sums in another order
    assert sorted(name for name, _ in model.named_parameters()) == sorted(names)


def test_a_part_inside_another_has_no_place() -> None:
    with pytest.raises(ValueError, match="causal-softmax has no place"):
        put_in(GPT2Model(SIZES), [mine("causal-softmax"), mine("attention")])


@pytest.mark.slow
def test_a_run_with_a_learners_part_is_an_ordinary_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    text = RIGHT["attention"]["nanoGPT"]
    (tmp_path / "mine" / "multiheadattention.py").write_text(text, encoding="utf-8")
    flags = ["--steps", "4", "--data.stories", "200"]
    assert main.main(["learn", "train", "attention", *flags]) == 0
    said = capsys.readouterr().out
    assert "Your attention ran" in said and "the one of the root files 0 times" in said
    run = tmp_path / "runs" / "mine"
    assert "sha256" in json.loads((run / "parts.json").read_text())["attention"]
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rounding = 1e-2 if is_faster_in_bf16("cpu") else 1e-6  # bf16 has 8 bits
    assert root_files_loss(run) == pytest.approx(metrics[-1]["val_loss"], rel=rounding)
    assert main.main(["evaluate", "runs/mine"]) == 0


@torch.no_grad()
def root_files_loss(run: Path) -> float:
    """Returns the validation loss of a run as the root files' own code computes it."""
    config, model = read_config(run), GPT2Model.load(run)
    nats, count = 0.0, 0
    for tokens, targets in load_corpus(config.data).evaluation_batches(176, 16):
        loss, n_targets = next_token_loss(model(tokens), targets)
        nats, count = nats + float(loss), count + int(n_targets)
    return nats / count
