"""main.py plan: the table, its figures, refused settings, listed assumptions."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import main
from cfg_gpt2 import PRESETS, DataConfig, GPT2Config, RunConfig, TrainConfig
from diagnostics.plan.speed import Traffic
from gpt2 import GPT2Model
from load_data import load_corpus
from run_directory.config_file import write_config
from training.flops import operations, parameters

Capture = pytest.CaptureFixture[str]


def planned(capsys: Capture, *flags: str) -> dict:
    assert main.main(["plan", "--json", *flags]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: Capture, *flags: str) -> str:
    assert main.main(["plan", *flags]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    return output.err


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_gpt2_xl_on_eight_gpus_is_planned(capsys: Capture) -> None:
    assert main.main(["plan", "--preset", "gpt2-xl", "--gpus", "8"]) == 0
    output = capsys.readouterr().out
    assert "1,557,611,200 parameters" in output
    assert "It fits" in output and "--gpu h100 is assumed" in output
    assert "(--utilization)" in output and "rule of thumb (Hoffmann et al. 2022)" in output


def test_counts_are_those_of_the_model(capsys: Capture) -> None:
    record = planned(capsys, "--preset", "gpt2", "--gpu", "a100")
    with torch.device("meta"):
        n_parameters = GPT2Model(PRESETS["gpt2"]).n_parameters()
    assert record["parameters"] == parameters(PRESETS["gpt2"]) == n_parameters
    assert record["operations_per_token"] == operations(PRESETS["gpt2"], 1024).training
    assert record["optimal_tokens"] == record["tokens"] == 20 * n_parameters
    assert record["token_file_bytes"] == 2 * record["tokens"]
    assert record["peak_memory"] == sum(record["memory"].values())
    assert record["checkpoint_bytes"] >= 16 * n_parameters


def test_snapshots_are_counted_with_the_disk(capsys: Capture) -> None:
    flags = ["--preset", "gpt2", "--gpu", "a100", "--train.max-steps", "100"]
    record = planned(capsys, *flags, "--train.snapshots", "3")
    assert record["snapshot_bytes"] == (1 + 3) * 4 * record["parameters"]
    assert planned(capsys, *flags)["snapshot_bytes"] == 0
    assert main.main(["plan", "--preset", "tiny", "--gpu-memory", "8"]) == 0
    assert " of snapshots" in capsys.readouterr().out


def test_a_rate_and_its_utilization_give_the_time(capsys: Capture) -> None:
    flags = ["--preset", "gpt2", "--gpu", "a100", "--tokens", "1e9", "--utilization", "0.5"]
    record = planned(capsys, *flags)
    speed = 0.5 * 312e12 / record["operations_per_token"]
    assert record["tokens_per_second"] == pytest.approx(speed)
    assert record["days"] == pytest.approx(1e9 / speed / 86400)
    measured = planned(capsys, *flags, "--tokens-per-second", "1000")
    assert measured["days"] == pytest.approx(1e6 / 86400)


def test_speed_grows_by_less_than_the_number_of_gpus(capsys: Capture) -> None:
    flags = ["--preset", "gpt2-xl", "--gpu", "a100", "--train.batch-size", "512"]
    one, eight, many = (
        planned(capsys, *flags, "--gpus", n, "--train.strategy", s)["tokens_per_second"]
        for n, s in (("1", "single"), ("8", "fsdp"), ("64", "fsdp"))
    )
    assert one < eight <= 8 * one * (1 + 1e-9)
    assert eight < many <= 64 * one * (1 + 1e-9)


def test_an_all_reduce_sends_each_gradient_twice() -> None:
    traffic = Traffic(
        n_ranks=4,
        fsdp=False,
        n_parameters=1_000,
        gathered_bytes=2,
        n_micro_batches=3,
        gigabytes_per_second=1e-6,
    )
    assert traffic.bytes_per_step == 2 * 3 / 4 * 4_000
    assert traffic.exposed_seconds(1.0) == pytest.approx(6.0 - 0.5)
    assert traffic.exposed_seconds(100.0) == 0


def test_the_largest_micro_batch_fits_and_one_more_does_not(capsys: Capture) -> None:
    flags = ["--preset", "gpt2-medium", "--gpu", "rtx4090", "--train.batch-size", "64"]
    record = planned(capsys, *flags)
    largest = record["largest_micro_batch"]
    assert 1 <= largest < 64
    assert record["peak_memory"] <= 0.92 * record["memory_there"]
    error = refused(capsys, *flags, "--train.micro-batch", str(largest + 1))
    assert f"try --train.micro-batch {largest}" in error
    found = planned(capsys, *flags, "--train.micro-batch", "auto")
    assert found["micro_batch"] == largest


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--gpus", "0"], "--gpus 0 must be 1 or more"),
        (["--gpu", "h1000"], "--gpu h1000 is not in the table; choose from h200, h100"),
        (["--gpus", "4", "--gpu-memory", "-1"], "--gpu-memory -1.0 must be a number above 0"),
        (["--tokens", "0"], "--tokens 0.0 must be a number above 0"),
        (["--utilization", "1.5"], "--utilization 1.5 must lie above 0 and at most 1"),
        (["--preset", "gpt2", "--gpus", "64"], "try --train.batch-size 512"),
        (["--gpus", "2", "--train.strategy", "single"], "--train.strategy single is one process"),
        (["--train.strategy", "fsdp"], "--train.strategy fsdp is for several GPUs"),
        (["--preset", "gpt5"], "--preset gpt5 is unknown"),
        (["--preset", "gpt2", "--config", "x.json"], "exclude each other"),
        (["--config", "nothing.json"], "nothing.json does not exist"),
    ],
)
def test_impossible_settings_are_refused(capsys: Capture, flags: list[str], sentence: str) -> None:
    assert sentence in refused(capsys, *flags)


def test_a_run_that_does_not_fit_is_refused_with_a_change_that_fits(capsys: Capture) -> None:
    error = refused(capsys, "--preset", "gpt2-xl", "--gpu", "rtx4090")
    assert "one window of 1024 tokens needs" in error
    advice = error.split("it would fit with ")[1].split()
    assert planned(capsys, "--preset", "gpt2-xl", "--gpu", "rtx4090", *advice)["micro_batch"] >= 1
    tiny = refused(capsys, "--preset", "gpt2-xl", "--gpus", "1", "--gpu-memory", "0.5")
    assert "it would fit into --gpu-memory" in tiny or "it would fit with" in tiny


def test_a_run_directory_is_planned_with_its_own_settings(tmp_path: Path, capsys: Capture) -> None:
    sizes = GPT2Config(vocab_size=300, context_length=64, n_layer=2, n_head=2, n_embd=64)
    train = TrainConfig(strategy="fsdp", activation_checkpointing=True)
    write_config(tmp_path, RunConfig(model=sizes, train=train))
    flags = ["--config", str(tmp_path), "--gpus", "2"]
    record = planned(capsys, *flags)
    assert record["parameters"] == parameters(sizes)
    assert record["strategy"] == "fsdp"
    kept = planned(capsys, *flags, "--train.no-activation-checkpointing")
    assert kept["peak_memory"] > record["peak_memory"]
    assert kept["tokens_per_second_of_one"] > record["tokens_per_second_of_one"]


def test_the_steps_that_are_asked_for_are_planned(capsys: Capture) -> None:
    flags = ["--preset", "gpt2", "--gpus", "8", "--train.batch-size", "512"]
    record = planned(capsys, *flags, "--train.max-steps", "20000")
    assert record["steps"] == 20_000
    assert record["tokens"] == 20_000 * 512 * 1024
    optimal = planned(capsys, *flags)
    assert record["days"] / optimal["days"] == pytest.approx(record["tokens"] / optimal["tokens"])
    assert planned(capsys, *flags, "--train.max_steps=20000") == record
    assert planned(capsys, *flags, "--train.max-steps=1000")["steps"] == 1000  # the default


def test_the_steps_of_a_config_are_planned_and_its_flags_come_first(
    tmp_path: Path, capsys: Capture
) -> None:
    sizes = GPT2Config(vocab_size=300, context_length=64, n_layer=2, n_head=2, n_embd=64)
    write_config(tmp_path, RunConfig(model=sizes, train=TrainConfig(max_steps=77, batch_size=4)))
    flags = ["--config", str(tmp_path)]
    assert planned(capsys, *flags)["steps"] == 77
    assert planned(capsys, *flags, "--train.max-steps", "8")["steps"] == 8
    assert planned(capsys, *flags, "--tokens", "512000")["steps"] == 2000


VERSE = "The cat sat on the mat and the dog lay on the log; the sun was low. "


@pytest.mark.parametrize("tokenizer", ["bpe", "char"])
def test_a_text_is_counted_in_the_tokens_that_training_gives_it(
    tokenizer: str, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "verse.txt").write_text(VERSE * 100, encoding="utf-8")
    data = DataConfig(
        path=(str(tmp_path / "verse.txt"),), tokenizer=tokenizer, cache_dir=str(tmp_path / "cache")
    )
    flags = ["--data.path", *data.path, "--data.tokenizer", tokenizer, "--train.max-steps", "5"]
    record = planned(capsys, *flags)
    corpus = load_corpus(data)
    assert record["text_bytes"] == corpus.train.n_bytes
    n_tokens = record["tokens"] / record["epochs"]
    assert n_tokens == pytest.approx(len(corpus.train.tokens), abs=1)
    vocab_size = corpus.tokenizer.vocab_size
    assert record["parameters"] == parameters(replace(PRESETS["tiny"], vocab_size=vocab_size))
    learned = any("is learned from the text" in line for line in record["assumptions"])
    assert learned == (tokenizer == "bpe")
    once = planned(capsys, *flags[:-2])
    assert once["epochs"] == 1 and once["tokens"] == pytest.approx(n_tokens)


def test_shards_are_counted_and_bring_their_vocabulary(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "verse.txt").write_text(VERSE * 100, encoding="utf-8")
    shards = str(tmp_path / "shards")
    prepared = ["prepare", "--data.path", str(tmp_path / "verse.txt"), "--out", shards]
    assert main.main(prepared) == 0
    capsys.readouterr()
    record = planned(capsys, "--data.path", shards, "--train.max-steps", "7")
    corpus = load_corpus(DataConfig(path=(shards,)))
    assert record["tokens"] / record["epochs"] == pytest.approx(len(corpus.train.tokens))
    assert not any("a token stands for" in line for line in record["assumptions"])
    vocab_size = corpus.tokenizer.vocab_size
    assert record["parameters"] == parameters(replace(PRESETS["tiny"], vocab_size=vocab_size))


def test_a_world_is_planned_without_telling_all_of_it(capsys: Capture) -> None:
    record = planned(capsys, "--data.path", "tiny-world", "--train.max-steps", "1700")
    assert record["parameters"] == parameters(PRESETS["tiny"])
    assert 1.0 < record["epochs"] < 2.5  # windows end at stories; train says 1.7 to 2


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("20GB", "--tokens 20GB is the size of a text; name the text by --data.path, or give"),
        ("1.5 TB", "or give --tokens 3.4e+11, of 4.4 bytes"),
        ("300MiB", "or give --tokens 6.8e+07"),
        ("9B", "--tokens 9B is no number; write --tokens 9e+09"),
        ("1.5t", "write --tokens 1.5e+12"),
        ("500k", "write --tokens 500000"),
        ("2bn", "write --tokens 2e+09"),
    ],
)
def test_tokens_in_words_are_answered_with_a_number(
    capsys: Capture, given: str, sentence: str
) -> None:
    assert sentence in refused(capsys, "--tokens", given)
    assert sentence in refused(capsys, f"--tokens={given}")


def test_two_lengths_of_a_run_exclude_each_other(capsys: Capture) -> None:
    error = refused(capsys, "--tokens", "1e9", "--train.max-steps", "10")
    assert "--tokens and --train.max-steps 10 exclude each other" in error


def test_a_missing_text_is_refused_as_in_training(capsys: Capture) -> None:
    assert "nowhere.txt does not exist" in refused(capsys, "--data.path", "nowhere.txt")


def test_an_assumed_speed_is_called_a_guess(capsys: Capture) -> None:
    assert main.main(["plan", "--preset", "gpt2", "--gpus", "8"]) == 0
    output = capsys.readouterr().out
    assert "tokens/s, a guess" in output and "a guess." in output
    flags = ["plan", "--preset", "gpt2", "--gpus", "8", "--tokens-per-second", "1e5"]
    assert main.main(flags) == 0
    assert "a guess" not in capsys.readouterr().out
