"""training/choose_runtime.py and runtime.py: what a device gets, and what is named if absent."""

from dataclasses import dataclass, field
from typing import Literal, cast

import pytest
import torch

from cfg_gpt2 import PRESETS, GPT2Config, TrainConfig
from gpt2 import GPT2Model
from training.choose_runtime import choose_runtime
from training.kernels.cross_entropy import fused_language_model_loss
from training.optimizer import make_optimizers, step_optimizers
from training.runtime import Runtime


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


@pytest.mark.parametrize(("compile_", "wanted"), [("auto", False), ("on", True), ("off", False)])
def test_blocks_are_compiled_for_an_apple_gpu_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, compile_: Literal["auto", "on", "off"], wanted: bool
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    config = TrainConfig(device="mps", compile=compile_)
    assert choose_runtime(config, PRESETS["gpt2"]).compiled is wanted


@dataclass
class CopyRecorder:
    """Stands for a tensor in main memory and records how it is copied."""

    calls: list[str] = field(default_factory=list)

    def pin_memory(self) -> "CopyRecorder":
        self.calls.append("pinned")
        return self

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "CopyRecorder":
        self.calls.append(f"{device.type} {'later' if non_blocking else 'at once'}")
        return self


@pytest.mark.parametrize(
    ("device", "wanted"),
    [("cuda", ["pinned", "cuda later"]), ("mps", ["mps at once"]), ("cpu", ["cpu at once"])],
)
def test_only_a_cuda_device_copies_a_batch_later(device: str, wanted: list[str]) -> None:
    tensor = CopyRecorder()
    Runtime(torch.device(device), torch.float32).to_device(cast("torch.Tensor", tensor))
    assert tensor.calls == wanted


def test_deterministic_training_leaves_out_other_operations() -> None:
    config = GPT2Config(vocab_size=11, context_length=8, n_layer=1, n_head=1, n_embd=8, dropout=0)
    runtime = choose_runtime(TrainConfig(device="cpu", deterministic=True))
    tokens = torch.arange(8).unsqueeze(0)
    try:
        model = runtime.prepare(GPT2Model(config))
        assert torch.are_deterministic_algorithms_enabled()
        assert "deterministic" in runtime.describe()
        loss, _, _ = fused_language_model_loss(model, (tokens, tokens))
        loss.backward()  # raises where an operation has no deterministic form
        runtime.grad_norm(model)
        step_optimizers(make_optimizers(model, TrainConfig(optimizer="muon"), torch.float32), 0.1,
                        torch.tensor(8.0))  # fmt: skip
    finally:
        torch.use_deterministic_algorithms(False)
