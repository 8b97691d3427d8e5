"""finetuning/adapter_files.py: equal to peft, whose files are read and which reads ours."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from oracles.hugging_face import hugging_face_name, hugging_face_pair, turned
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from cfg_gpt2 import GPT2Config
from finetuning.adapter_files import CONFIG_FILE, TENSORS_FILE, load_adapter, write_adapter
from finetuning.lora import add_lora, merge
from finetuning.lora_settings import LoraConfig
from gpt2 import GPT2Model

SIZES = GPT2Config(
    vocab_size=37, context_length=10, n_layer=2, n_head=2, n_embd=24, dropout=0.0
)  # fmt: skip
LORA = LoraConfig(rank=5, alpha=7)
TOKENS = torch.randint(SIZES.vocab_size, (3, 8), generator=torch.Generator().manual_seed(1))
PEFT_TARGETS = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]


def randomize(model: nn.Module, part: str) -> None:
    """Gives A or B random values of a size at which they matter."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if part in name:
            nn.init.normal_(parameter, std=0.2, generator=generator)


def ours_with_lora(ours: GPT2Model, config: LoraConfig = LORA) -> GPT2Model:
    add_lora(ours, config, seed=1)
    randomize(ours, "lora_B")
    return ours


def write(model: nn.Module, folder: Path, config: LoraConfig = LORA) -> None:
    folder.mkdir(exist_ok=True)
    write_adapter(folder, dict(model.named_parameters()), config, "gpt2")


def loss(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())


def assert_near(ours: Tensor, theirs: Tensor, tolerance: float = 1e-6) -> None:
    """Their sums run in another order, so they differ by the rounding of fp32."""
    assert (ours - theirs).abs().max() <= tolerance * max(1, theirs.abs().max())


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[GPT2Model, nn.Module]]:
    """Our model with LoRA, and peft's around Hugging Face's, which has read our adapter."""
    peft = pytest.importorskip("peft")
    ours, theirs = hugging_face_pair(SIZES)
    write(ours_with_lora(ours), tmp_path / "ours")
    yield ours, peft.PeftModel.from_pretrained(theirs, tmp_path / "ours", is_trainable=True)


def test_peft_reads_our_adapter_and_computes_the_same(pair: tuple[GPT2Model, nn.Module]) -> None:
    ours, theirs = pair
    logits, expected = ours(TOKENS), theirs(TOKENS).logits
    assert_near(logits, expected)
    loss(logits).backward()
    loss(expected).backward()
    gradients = {
        name.replace(".default", ""): p.grad
        for name, p in theirs.named_parameters()
        if p.requires_grad
    }
    assert len(gradients) == 16
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            layer, _, factor = name.rpartition(".")
            key = f"base_model.model.{hugging_face_name(layer + '.')}{factor}.weight"
            assert parameter.grad.abs().max() > 1e-4
            assert_near(parameter.grad, gradients[key])


def test_our_merge_is_that_of_peft(pair: tuple[GPT2Model, nn.Module]) -> None:
    ours, theirs = pair
    expected = theirs.merge_and_unload().state_dict()
    parameters = {n.replace(".base.", "."): p.detach() for n, p in ours.named_parameters()}
    weights = merge(parameters, dict(parameters), LORA)
    for name, weight in weights.items():
        if "lora_" not in name:
            assert_near(weight, turned(name, expected[hugging_face_name(name)]))


@pytest.mark.parametrize("targets", [PEFT_TARGETS, ["c_attn"], ["c_proj"], "all-linear"])
def test_we_read_the_adapter_of_peft(targets: list[str] | str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    ours, theirs = hugging_face_pair(SIZES)
    config = peft.LoraConfig(r=3, lora_alpha=8, target_modules=targets, fan_in_fan_out=True)
    theirs = peft.get_peft_model(theirs, config)
    randomize(theirs, "lora_B")
    theirs.save_pretrained(tmp_path)
    own = {"c_attn": ("qkv_proj",), "c_proj": ("out_proj", "narrow_proj")}
    lora = LoraConfig(rank=3, alpha=8, adapter=tmp_path)
    if targets[0] in own:
        lora = replace(lora, targets=own[targets[0]])
    add_lora(ours, lora, seed=1)
    load_adapter(ours, lora)
    assert_near(ours(TOKENS), theirs(TOKENS).logits)


def test_an_adapter_comes_back_as_it_was_written(tmp_path: Path) -> None:
    config = replace(LORA, targets=("narrow_proj", "out_proj"), adapter=tmp_path)
    model, again = GPT2Model(SIZES), GPT2Model(SIZES)
    write(ours_with_lora(model, config), tmp_path, config)
    add_lora(again, config, seed=2)
    load_adapter(again, config)
    for name, parameter in again.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(parameter, model.get_parameter(name))


# What is refused -------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(ours_with_lora(GPT2Model(SIZES)), tmp_path)
    return tmp_path


def load(folder: Path, config: LoraConfig = LORA, sizes: GPT2Config = SIZES) -> None:
    config = replace(config, adapter=folder)
    model = GPT2Model(sizes)
    add_lora(model, config, seed=1)
    load_adapter(model, config)


@pytest.mark.parametrize("name", [CONFIG_FILE, TENSORS_FILE])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} does not exist; name a folder"):
        load(folder)


@pytest.mark.parametrize(
    "key, value",
    [
        ("peft_type", "IA3"),
        ("use_dora", True),
        ("use_rslora", True),
        ("bias", "all"),
        ("modules_to_save", ["lm_head"]),
        ("rank_pattern", {"c_attn": 4}),
        ("init_lora_weights", "pissa"),
    ],
)
def test_another_method_is_refused_by_its_setting(folder: Path, key: str, value: object) -> None:
    settings = json.loads((folder / CONFIG_FILE).read_text()) | {key: value}
    (folder / CONFIG_FILE).write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=f"cannot be used: {key} .* is another method"):
        load(folder)


@pytest.mark.parametrize("key, value", [("r", "5"), ("lora_alpha", None), ("lora_dropout", 2)])
def test_a_number_that_is_none_is_refused(folder: Path, key: str, value: object) -> None:
    settings = json.loads((folder / CONFIG_FILE).read_text()) | {key: value}
    (folder / CONFIG_FILE).write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=f"{CONFIG_FILE} cannot be used: .*{key[5:]}"):
        load(folder)


def test_other_settings_are_refused_with_the_flags_to_give(folder: Path) -> None:
    flags = "--lora.rank 5 --lora.alpha 7 --lora.targets qkv_proj out_proj widen_proj narrow_proj"
    with pytest.raises(ValueError, match=flags):
        load(folder, replace(LORA, rank=4))


@pytest.mark.parametrize(
    "sizes, sentence",
    [
        (replace(SIZES, n_layer=3), r"it has nothing for blocks\.2\."),
        (replace(SIZES, n_layer=1), r"the model has no blocks\.1\."),
        (replace(SIZES, n_embd=26), r"lora_A is \(5, 24\), not \(5, 26\)"),
    ],
)
def test_an_adapter_of_another_model_is_refused(
    folder: Path, sizes: GPT2Config, sentence: str
) -> None:
    with pytest.raises(ValueError, match=f"does not fit the model: .*{sentence}"):
        load(folder, sizes=sizes)


def test_tensors_of_another_model_are_refused(folder: Path) -> None:
    tensors = load_file(folder / TENSORS_FILE)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    save_file(tensors | {name: torch.zeros(5, 24)}, folder / TENSORS_FILE)
    with pytest.raises(ValueError, match=r"q_proj\.lora_A\.weight belongs to no matrix"):
        load(folder)
    (folder / TENSORS_FILE).write_bytes(b"pickle")
    with pytest.raises(ValueError, match=f"{TENSORS_FILE} cannot be read"):
        load(folder)
