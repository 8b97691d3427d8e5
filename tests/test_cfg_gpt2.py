import dataclasses
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfg_gpt2 import (
    DEFAULT_PRESET,
    PRESETS,
    DataConfig,
    GPT2Config,
    TrainConfig,
    preset,
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
        ("train", {"warmup_steps": -1}, ["--train.warmup-steps", "-1", "at least 0"]),
        ("train", {"weight_decay": -0.1}, ["--train.weight-decay", "-0.1", "at least 0"]),
        ("train", {"beta1": 1.0}, ["--train.beta1 1.0", " 0 ", " 1"]),
        ("train", {"beta2": -0.5}, ["--train.beta2 -0.5", " 0 ", " 1"]),
        ("train", {"grad_clip": -1.0}, ["--train.grad-clip", "-1.0", "from 0 on"]),
        # numbers that no machine, no format and no step can have
        ("model", {"vocab_size": 10**18}, ["--model.vocab-size", "at most 16777216"]),
        ("model", {"context_length": 10**9}, ["--model.context-length", "at most 16777216"]),
        ("model", {"n_layer": 10**400}, ["--model.n-layer", "at most 16777216"]),
        ("model", {"n_embd": 10**12}, ["--model.n-embd", "at most 16777216"]),
        ("data", {"vocab_size": 2**70}, ["--data.vocab-size", "at most 16777216", "try"]),
        ("data", {"stories": 10**12}, ["--data.stories", "at most 10000000", "try"]),
        ("data", {"validation_share": math.nan}, ["--data.validation-share nan", "0 and 1"]),
        ("data", {"mix": (math.inf,)}, ["--data.mix inf", "numbers above 0"]),
        ("train", {"batch_size": 10**12}, ["--train.batch-size", "at most 1000000000"]),
        ("train", {"max_steps": 2**70}, ["--train.max-steps", "at most 1000000000"]),
        ("train", {"keep_checkpoints": 2**70}, ["--train.keep-checkpoints", "at most"]),
        ("train", {"warmup_steps": 2**70}, ["--train.warmup-steps", "at most 1000000000"]),
        ("train", {"seed": 2**70}, ["--train.seed 1180591620717411303424", "9223372036854775807"]),
        ("train", {"seed": -(2**63) - 1}, ["--train.seed -92233720368547758", "64 bits"]),
        ("train", {"learning_rate": math.inf}, ["--train.learning-rate inf", "at most 1000"]),
        ("train", {"learning_rate": 1e30}, ["--train.learning-rate 1e+30", "at most 1000"]),
        ("train", {"final_learning_rate": math.nan}, ["--train.final-learning-rate nan", "try"]),
        ("train", {"weight_decay": math.inf}, ["--train.weight-decay inf", "at most 1 when"]),
        ("train", {"weight_decay": math.nan}, ["--train.weight-decay nan", "at least 0"]),
        ("train", {"weight_decay": 1e30}, ["--train.weight-decay 1e+30", "learning-rate 0.0006"]),
        ("train", {"grad_clip": math.nan}, ["--train.grad-clip nan", "must be a number", "try 1"]),
        ("train", {"grad_clip": math.inf}, ["--train.grad-clip inf", "0 for none"]),
        ("train", {"skip_spikes": math.inf}, ["--train.skip-spikes inf", "try 6"]),
        ("train", {"beta1": math.nan}, ["--train.beta1 nan", " 0 ", " 1"]),
    ],
)
def test_an_impossible_value_is_refused_with_flag_value_and_limit(
    section: str, values: dict[str, object], said: list[str]
) -> None:
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
def test_the_width_that_is_proposed_is_one_that_works(n_embd: int, n_head: int) -> None:
    try:
        config = GPT2Config(n_embd=n_embd, n_head=n_head)
    except ValueError as error:
        proposed = int(str(error).rpartition(" ")[2])
        config = GPT2Config(n_embd=proposed, n_head=n_head)
        assert abs(proposed - n_embd) <= max(n_head / 2, n_head - n_embd)  # and it is the nearest
    assert config.head_dim * n_head == config.n_embd


def test_settings_cannot_be_changed_afterwards() -> None:
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
def test_presets_have_the_published_sizes(name: str, sizes: tuple[int, int, int]) -> None:
    config = PRESETS[name]
    assert (config.n_layer, config.n_head, config.n_embd) == sizes
    assert (config.vocab_size, config.context_length, config.bias) == (50257, 1024, True)


def test_the_book_is_gpt2_with_a_context_of_256() -> None:
    assert PRESETS["book"] == dataclasses.replace(PRESETS["gpt2"], context_length=256)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gives_a_whole_set_of_settings(name: str) -> None:
    assert preset(name).model == PRESETS[name]


def test_an_unknown_preset_is_refused_with_the_list_of_known_ones() -> None:
    assert DEFAULT_PRESET in PRESETS
    with pytest.raises(ValueError, match="--preset gpt3 is unknown") as caught:
        preset("gpt3")
    assert all(name in str(caught.value) for name in PRESETS)
