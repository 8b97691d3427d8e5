"""The commands `quantize` and `generate --precision`, called as from a shell."""

import re
from pathlib import Path

import pytest

import main

SMALL = ["--model.n-layer", "2", "--model.n-head", "2", "--model.n-embd", "32",
         "--model.context-length", "32", "--train.batch-size", "4", "--train.warmup-steps", "2",
         "--train.device", "cpu", "--train.precision", "fp32",
         "--data.tokenizer", "char"]  # fmt: skip
VERSE = "Мама мыла раму, the cat sat on the mat. " * 40


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run that has learned a verse."""
    folder = tmp_path_factory.mktemp("quantize")
    text = folder / "verse.txt"
    text.write_text(VERSE, encoding="utf-8")
    flags = ["--data.path", str(text), "--data.cache-dir", str(folder / "cache")]
    flags += ["--train.max-steps", "200", "--train.learning-rate", "1e-2"]
    assert main.main(["train", "--out", str(folder / "run"), *SMALL, *flags]) == 0
    return folder / "run"


def test_the_bytes_and_the_cost_in_bits_are_printed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main.main(["quantize", str(run)]) == 0
    output = capsys.readouterr().out
    rows = re.findall(r"(fp32|int8) +([\d.]+) MB +([\d.]+) bits per byte", output)
    assert [row[0] for row in rows] == ["fp32", "int8"]
    bits = [float(row[2]) for row in rows]
    assert bits[0] < 1.5  # of some 5 for a model that knows nothing
    share = float(re.findall(r"([+-][\d.]+)%", output)[0])
    rounding = 100 * 1e-5 / bits[0]  # of two figures that are printed to 1e-5
    assert share == pytest.approx(100 * (bits[1] / bits[0] - 1), abs=rounding + 1e-3)
    assert abs(share) < 5


def test_the_bits_of_fp32_weights_equal_those_of_the_training_log(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    logged = re.findall(r'"val_bits_per_byte": ([\d.]+)', lines[-1])[0]
    capsys.readouterr()
    assert main.main(["quantize", str(run)]) == 0
    printed = re.findall(r"fp32 .* ([\d.]+) bits per byte", capsys.readouterr().out)[0]
    assert float(printed) == pytest.approx(float(logged), abs=2e-5)  # it is printed to 1e-5


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_greedy_text_in_every_precision_is_the_verse_that_was_learned(
    run: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    flags = ["--prompt", "Мама мыла", "--max-new-tokens", "5", "--temperature", "0"]
    assert main.main(["generate", str(run), "--precision", precision, *flags]) == 0
    assert capsys.readouterr().out.strip() == "Мама мыла раму"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["missing"], "missing"),
        (["{run}", "--tokens", "0"], "--tokens 0 must be 1 or more"),
        (["{run}", "--data.path", "nowhere.txt"], "nowhere.txt does not exist"),
    ],
)
def test_wrong_input_ends_with_one_sentence_and_status_2(
    run: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main.main(["quantize", *(flag.format(run=run) for flag in flags)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
