"""training/units.py: what the numbers of a run stand for is told by its method."""

import json
from pathlib import Path
from typing import get_args

import pytest

from finetuning.chat_json import Method
from training.units import (
    OF_METHODS,
    OF_TEXT,
    Units,
    describe_evaluation,
    describe_step,
    units_of,
)
from training.validation_curve import ValidationCurve


def test_a_run_without_chat_json_and_an_imported_one_count_tokens(tmp_path: Path) -> None:
    assert units_of(tmp_path) == OF_TEXT == Units("nats per token", "tokens")
    (tmp_path / "chat.json").write_text(json.dumps({"method": "import"}))
    assert units_of(tmp_path) == OF_TEXT


def test_every_method_of_finetuning_has_its_units(tmp_path: Path) -> None:
    assert set(OF_METHODS) == set(get_args(Method))
    for method, units in OF_METHODS.items():
        (tmp_path / "chat.json").write_text(json.dumps({"method": method}))
        assert units_of(tmp_path) == units
        assert units.tokens == "learned tokens"


def test_a_chat_json_that_is_broken_is_named(tmp_path: Path) -> None:
    (tmp_path / "chat.json").write_text("{")
    with pytest.raises(ValueError, match=r"chat\.json"):
        units_of(tmp_path)


def test_the_screen_names_the_units() -> None:
    step = {"train_loss": 0.25, "tokens_per_second": 4000.4}
    assert describe_step(step, OF_TEXT) == "loss 0.250  4,000 tokens/s"
    assert describe_step(step, OF_METHODS["lora"]) == "loss 0.250  4,000 learned tokens/s"
    evaluation = {"val_loss": 0.5, "val_margin": 2.0}
    line = describe_evaluation(evaluation, OF_METHODS["dpo"])
    assert line == "validation loss 0.5 per pair, margin 2"
    lines = [{"step": n, "val_loss": loss} for n, loss in enumerate((0.5, 0.25, 0.75))]
    hint = ValidationCurve(lines).hint(OF_METHODS["reward"].loss)
    assert hint and "lowest at step 1, 0.2500 of the reward lost per answer" in hint
