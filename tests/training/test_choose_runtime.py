"""training/choose_runtime.py: what is not present is named, and what is chosen is described."""

from typing import Literal

import pytest
import torch

from cfg_gpt2 import PRESETS, TrainConfig
from training.choose_runtime import choose_runtime


def test_a_device_that_is_not_present_is_named() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ValueError, match=r"--train\.device cuda is not present here"):
        choose_runtime(TrainConfig(device="cuda"))


@pytest.mark.parametrize("compile_", ["auto", "on", "off"])
@pytest.mark.parametrize("missing", [None, "a C++ compiler"])
def test_the_runtime_describes_what_is_compiled(
    monkeypatch: pytest.MonkeyPatch, compile_: Literal["auto", "on", "off"], missing: str | None
) -> None:
    monkeypatch.setattr("training.choose_runtime.missing_compiler", lambda device: missing)
    config = TrainConfig(device="cpu", compile=compile_)
    small, large = PRESETS["tiny"], PRESETS["gpt2"]
    if compile_ == "on" and missing:
        with pytest.raises(ValueError, match=r"--train\.compile on needs a C\+\+ compiler"):
            choose_runtime(config, small)
        return
    wanted = {"auto": (False, True), "on": (True, True), "off": (False, False)}[compile_]
    for sizes, wants in zip((small, large), wanted, strict=True):
        runtime = choose_runtime(config, sizes)
        assert runtime.compiled == (wants and not missing)
        assert ("compiled blocks" in runtime.describe()) == runtime.compiled
        assert ("compiling them needs a C++ compiler" in runtime.describe()) == (
            wants and bool(missing)
        )
