import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfg_gpt2 import (
    DEFAULT_PRESET,
    FORMAT_VERSION,
    PRESETS,
    DataConfig,
    GPT2Config,
    RunConfig,
    TrainConfig,
    preset,
    read_config,
    write_config,
    write_whole,
)

SECTIONS = {"model": GPT2Config, "data": DataConfig, "train": TrainConfig}


# Values that cannot be ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("model", {"vocab_size": 0}, ["--model.vocab-size", "0", "at least 1"]),
        ("model", {"context_length": 0}, ["--model.context-length", "0", "at least 1"]),
        ("model", {"n_layer": 0}, ["--model.n-layer", "0", "at least 1"]),
        ("model", {"n_head": 0}, ["--model.n-head", "0", "at least 1"]),
        ("model", {"n_embd": -64}, ["--model.n-embd", "-64", "at least 1"]),
        ("model", {"n_head": 5}, ["--model.n-embd", "768", "--model.n-head 5", "770"]),
        ("model", {"dropout": 1.0}, ["--model.dropout 1.0", " 0 ", " 1;"]),
        ("model", {"dropout": -0.1}, ["--model.dropout -0.1", " 0 ", " 1;"]),
        ("model", {"dropout": math.nan}, ["--model.dropout nan", " 0 ", " 1;"]),
        ("data", {"path": ()}, ["--data.path", "empty", "tiny-world"]),
        ("data", {"vocab_size": 256}, ["--data.vocab-size", "256", "at least 257", "try"]),
        (
            "data",
            {"vocab_size": 300, "tokenizer": "char"},
            ["--data.vocab-size", "300", "--data.tokenizer char", "leave it out"],
        ),
        ("data", {"validation_share": 0.0}, ["--data.validation-share", "0.0", "between 0 and 1"]),
        ("data", {"validation_share": 1.0}, ["--data.validation-share", "1.0", "between 0 and 1"]),
        ("data", {"stories": 99}, ["--data.stories", "99", "at least 100", "try"]),
        ("train", {"max_steps": 0}, ["--train.max-steps", "0", "at least 1"]),
        ("train", {"batch_size": 0}, ["--train.batch-size", "0", "at least 1"]),
        ("train", {"eval_every": 0}, ["--train.eval-every", "0", "at least 1"]),
        (
            "train",
            {"batch_size": 8, "micro_batch": 9},
            ["--train.micro-batch", "9", "from 1", "--train.batch-size 8"],
        ),
        ("train", {"micro_batch": 0}, ["--train.micro-batch", "0", "from 1"]),
        (
            "train",
            {"learning_rate": 1e-5},
            ["--train.final-learning-rate", "6e-05", "at most --train.learning-rate 1e-05"],
        ),
        ("train", {"final_learning_rate": 0.0}, ["--train.final-learning-rate", "0.0", "positive"]),
        ("train", {"learning_rate": math.nan}, ["--train.learning-rate", "nan"]),
        ("train", {"warmup_steps": -1}, ["--train.warmup-steps", "-1", "not be negative"]),
        ("train", {"weight_decay": -0.1}, ["--train.weight-decay", "-0.1", "not be negative"]),
        ("train", {"beta1": 1.0}, ["--train.beta1 1.0", " 0 ", " 1"]),
        ("train", {"beta2": -0.5}, ["--train.beta2 -0.5", " 0 ", " 1"]),
        ("train", {"grad_clip": -1.0}, ["--train.grad-clip", "-1.0", "not be negative"]),
    ],
)
def test_an_impossible_value_is_refused_with_flag_value_and_limit(
    section: str, values: dict[str, object], said: list[str]
):
    with pytest.raises(ValueError) as caught:
        SECTIONS[section](**values)
    sentence = str(caught.value)
    assert [part for part in said if part not in sentence] == []
    assert "\n" not in sentence
    flags = {
        f"--{name}.{field.name.replace('_', '-')}"
        for name, kind in SECTIONS.items()
        for field in dataclasses.fields(kind)
    }
    assert set(re.findall(r"--[a-z]+\.[a-z0-9-]+", sentence)) <= flags


@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(1, 5000), st.integers(1, 200))
def test_the_width_that_is_proposed_is_one_that_works(n_embd: int, n_head: int):
    try:
        config = GPT2Config(n_embd=n_embd, n_head=n_head)
    except ValueError as error:
        proposed = int(str(error).rpartition(" ")[2])
        config = GPT2Config(n_embd=proposed, n_head=n_head)
        assert abs(proposed - n_embd) <= max(n_head / 2, n_head - n_embd)  # and it is the nearest
    assert config.head_dim * n_head == config.n_embd


def test_settings_cannot_be_changed_afterwards():
    for kind in SECTIONS.values():
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(kind(), dataclasses.fields(kind)[0].name, 1)


# Presets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sizes"),
    [  # Radford et al. 2019, table 2, with the heads of the published models
        ("gpt2", (12, 12, 768)),
        ("gpt2-medium", (24, 16, 1024)),
        ("gpt2-large", (36, 20, 1280)),
        ("gpt2-xl", (48, 25, 1600)),
    ],
)
def test_presets_have_the_published_sizes(name: str, sizes: tuple[int, int, int]):
    config = PRESETS[name]
    assert (config.n_layer, config.n_head, config.n_embd) == sizes
    assert (config.vocab_size, config.context_length, config.bias) == (50257, 1024, True)


def test_the_book_is_gpt2_with_a_context_of_256():
    assert PRESETS["book"] == dataclasses.replace(PRESETS["gpt2"], context_length=256)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gives_a_whole_set_of_settings(name: str):
    assert preset(name).model == PRESETS[name]


def test_an_unknown_preset_is_refused_with_the_list_of_known_ones():
    assert DEFAULT_PRESET in PRESETS
    with pytest.raises(ValueError, match="--preset gpt3 is unknown") as caught:
        preset("gpt3")
    assert all(name in str(caught.value) for name in PRESETS)


# config.json --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_settings_come_back_from_config_json(tmp_path: Path, name: str):
    config = dataclasses.replace(
        preset(name),
        data=DataConfig(path=("книга.txt", "b/*.txt"), tokenizer="char", validation_share=0.2),
    )
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config
    assert read_config(tmp_path / "config.json") == config
    assert "книга.txt" in (tmp_path / "config.json").read_text(encoding="utf-8")


rates = st.floats(1e-9, 10.0)


@settings(max_examples=25, deadline=None)  # each writes and reads a file
@given(
    n_layer=st.integers(1, 10**6),
    dropout=st.floats(0, 1, exclude_max=True),
    bias=st.booleans(),
    path=st.lists(st.text(st.characters(codec="utf-8")), min_size=1).map(tuple),
    micro_batch=st.none() | st.integers(1, 32),
    rates=st.tuples(rates, rates).map(sorted),
    device=st.sampled_from(["auto", "cpu", "cuda", "mps"]),
)
def test_any_settings_come_back_from_config_json(
    tmp_path_factory: pytest.TempPathFactory,
    n_layer: int,
    dropout: float,
    bias: bool,
    path: tuple[str, ...],
    micro_batch: int | None,
    rates: list[float],
    device: str,
):
    folder = tmp_path_factory.getbasetemp() / "settings"
    config = RunConfig(
        model=GPT2Config(n_layer=n_layer, dropout=dropout, bias=bias),
        data=DataConfig(path=path),
        train=TrainConfig(
            micro_batch=micro_batch,
            final_learning_rate=rates[0],
            learning_rate=rates[1],
            device=device,
        ),
    )
    write_config(folder, config)
    assert read_config(folder) == config


def refused(file: Path, text: str | bytes) -> str:
    """The sentence that reading ends with; it is one line and names the file."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as caught:
        read_config(file)
    sentence = str(caught.value)
    assert type(caught.value) is ValueError
    assert str(file) in sentence and "\n" not in sentence
    return sentence


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_config(tmp_path, RunConfig())
    return tmp_path / "config.json"


def changed(file: Path, section: str, **values: object) -> str:
    whole = json.loads(file.read_text(encoding="utf-8"))
    (whole[section] if section else whole).update(values)
    return json.dumps(whole)


def test_an_unknown_key_is_refused_by_name(file: Path):
    for section in ("", "model", "data", "train"):
        where = f"{section}.speed" if section else "speed"
        assert where in refused(file, changed(file, section, speed=3))
        write_config(file.parent, RunConfig())


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("model", "n_layer", "twelve"),
        ("model", "n_layer", None),
        ("model", "n_layer", 1.5),
        ("model", "n_layer", [12]),
        ("model", "dropout", "little"),
        ("data", "path", 7),
        ("data", "tokenizer", 3),
        ("train", "device", "tpu"),
        ("train", "micro_batch", "all"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(
    file: Path, section: str, name: str, value: object
):
    assert f"{section}.{name}" in refused(file, changed(file, section, **{name: value}))


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("model", "n_layer", "12"),
        ("model", "n_layer", True),
        ("model", "bias", "no"),
        ("model", "dropout", "0.1"),
    ],
)
def test_a_value_of_the_wrong_type_is_not_repaired_silently(
    file: Path, section: str, name: str, value: object
):
    assert f"{section}.{name}" in refused(file, changed(file, section, **{name: value}))


def test_an_impossible_value_is_refused_with_its_flag(file: Path):
    sentence = refused(file, changed(file, "model", n_head=5))
    assert "--model.n-head 5" in sentence and "Value error" not in sentence


@pytest.mark.parametrize("version", [0, FORMAT_VERSION + 1, "1", None])
def test_another_format_version_is_refused_with_both_numbers(file: Path, version: object):
    sentence = refused(file, changed(file, "", format_version=version))
    assert "format_version" in sentence
    assert str(version) in sentence and str(FORMAT_VERSION) in sentence


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "{}", b"\xff\xfe\x00"])
def test_what_is_no_such_file_is_refused(file: Path, text: str | bytes):
    refused(file, text)


def test_a_missing_file_is_refused_with_its_path(tmp_path: Path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
            read_config(path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path):
    file = tmp_path / "deep" / "figures.txt"

    def fail_halfway(path: Path) -> None:
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(file, fail_halfway)
    assert list(file.parent.iterdir()) == []
    write_whole(file, lambda path: path.write_text("whole"))
    with pytest.raises(OSError, match="disk full"):
        write_whole(file, fail_halfway)
    assert file.read_text() == "whole"
    assert list(file.parent.iterdir()) == [file]
