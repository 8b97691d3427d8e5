"""TransformerLens on the exported model: the same attention, lens and direct attribution.

It needs many packages that nothing here needs, so it is no extra of this project. Where it lies in
a folder of its own, this runs it:

    pip install --no-deps --target FOLDER transformer-lens einops jaxtyping wadler-lindig beartype
        fancy-einsum typeguard better-abc datasets wandb pandas ...
    PYTHONPATH=FOLDER python -m pytest -m slow tests/visualization/test_transformer_lens.py
"""

from pathlib import Path

import pytest
import torch
from oracles.random_model import SIZES, random_model

import main
from gpt2 import GPT2Model
from tokenizer import Tokenizer
from visualization.attribution import attribute, part_names
from visualization.capture import Trace, capture
from visualization.lens import lens_logits, stages

lens = pytest.importorskip("transformer_lens.model_bridge", reason="TransformerLens is not here")
pytestmark = pytest.mark.slow

TOKENS = torch.randint(61, (1, 24), generator=torch.Generator().manual_seed(6))
TARGET = 17  # the token whose logit is taken apart


@pytest.fixture(scope="module")
def model() -> GPT2Model:
    return random_model()


@pytest.fixture(scope="module")
def trace(model: GPT2Model) -> Trace:
    return capture(model, TOKENS)


@pytest.fixture(scope="module")
def exported(model: GPT2Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as `export` writes it."""
    folder = tmp_path_factory.mktemp("lens")
    model.save(folder / "run")
    Tokenizer.characters([chr(ord("A") + n) for n in range(60)]).save(folder / "run")
    assert main.main(["export", str(folder / "run"), "--out", str(folder / "hf")]) == 0
    return folder / "hf"


def test_attention_and_lens_are_the_same(model: GPT2Model, trace: Trace, exported: Path) -> None:
    bridge = lens.TransformerBridge.boot_transformers(str(exported), device="cpu")
    with torch.no_grad():
        logits, cache = bridge.run_with_cache(TOKENS)
        torch.testing.assert_close(logits, trace.logits, atol=1e-4, rtol=0)
        for layer in range(SIZES.n_layer):
            theirs = cache[f"blocks.{layer}.attn.hook_pattern"]
            torch.testing.assert_close(theirs, trace.weights[layer], atol=1e-5, rtol=0)
        theirs = [cache["blocks.0.hook_in"]]
        for layer in range(SIZES.n_layer):
            theirs += [cache[f"blocks.{layer}.{hook}"] for hook in ("hook_resid_mid", "hook_out")]
        for x, (depth, own) in zip(theirs, stages(trace), strict=True):
            expected = bridge.unembed(bridge.ln_final(x))
            torch.testing.assert_close(
                lens_logits(model, own), expected, atol=1e-4, rtol=0, msg=lambda m, d=depth: d + m
            )


def test_direct_attribution_is_the_same(model: GPT2Model, trace: Trace, exported: Path) -> None:
    bridge = lens.TransformerBridge.boot_transformers(str(exported), device="cpu")
    bridge.enable_compatibility_mode(
        center_writing_weights=False, center_unembed=False, fold_value_biases=False
    )
    with torch.no_grad():
        _, cache = bridge.run_with_cache(TOKENS)
        heads, labels = cache.stack_head_results(layer=-1, return_labels=True)
        theirs = cache.logit_attrs(heads, TARGET)[:, 0]  # (heads, T)
    names = part_names(SIZES)
    own = attribute(model, trace, torch.full((24, 1), TARGET))[:, 0]  # (T, P)
    for label, expected in zip(labels, theirs, strict=True):
        layer, head = label.removeprefix("L").split("H")
        mine = own[:, names.index(f"{layer}.{head}")]
        torch.testing.assert_close(mine, expected.double(), atol=1e-4, rtol=0)
