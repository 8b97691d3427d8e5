"""config.json: what is written comes back, and what is wrong is named in one sentence."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfg_gpt2 import PRESETS, DataConfig, GPT2Config, RunConfig, TrainConfig, preset
from run_directory.config_file import FORMAT_VERSION, read_config, write_config

SECTIONS = {"model": GPT2Config, "data": DataConfig, "train": TrainConfig}


# config.json --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_settings_come_back_from_config_json(tmp_path: Path, name: str) -> None:
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
) -> None:
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


def test_an_unknown_key_is_refused_by_name(file: Path) -> None:
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
) -> None:
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
) -> None:
    assert f"{section}.{name}" in refused(file, changed(file, section, **{name: value}))


def test_an_impossible_value_is_refused_with_its_flag(file: Path) -> None:
    sentence = refused(file, changed(file, "model", n_head=5))
    assert "--model.n-head 5" in sentence and "Value error" not in sentence


@pytest.mark.parametrize("version", [0, FORMAT_VERSION + 1, "1", None])
def test_another_format_version_is_refused_with_both_numbers(file: Path, version: object) -> None:
    sentence = refused(file, changed(file, "", format_version=version))
    assert "format_version" in sentence
    assert str(version) in sentence and str(FORMAT_VERSION) in sentence


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "{}", b"\xff\xfe\x00"])
def test_what_is_no_such_file_is_refused(file: Path, text: str | bytes) -> None:
    refused(file, text)


def test_a_missing_file_is_refused_with_its_path(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
            read_config(path)
