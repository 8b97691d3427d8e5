"""An adapter, LoRA's A and B of every target, in the files in which peft keeps it.

    adapter_config.json          rank, alpha, targets
    adapter_model.safetensors    base_model.model.transformer.h.3.attn.c_attn.lora_A.weight, ...

peft finds the targets by the ends of their names, so attn.c_proj is told from mlp.c_proj. A and B
have the same shapes here and there; fan_in_fan_out says that Hugging Face's Conv1D, beside which
peft puts them, keeps W transposed.
Previous: lora.py.  Next: supervised.py.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cfg_gpt2 import require
from finetuning.lora import A, B
from finetuning.lora_settings import MATRICES, LoraConfig
from gpt2 import GPT2Model
from run_directory.files import write_whole
from run_directory.json_file import read_json_object, shortened, validate
from run_directory.paths import require_file
from run_directory.weights import write_tensors

CONFIG_FILE, TENSORS_FILE = "adapter_config.json", "adapter_model.safetensors"
PEFT_NAMES = {  # of each matrix of a block
    "attention.qkv_proj": "attn.c_attn",
    "attention.out_proj": "attn.c_proj",
    "feedforward.widen_proj": "mlp.c_fc",
    "feedforward.narrow_proj": "mlp.c_proj",
}
OWN_NAMES = {theirs: own for own, theirs in PEFT_NAMES.items()}
TENSOR = re.compile(
    r"base_model\.model\.(?:transformer\.)?h\.(\d+)\.(\w+\.\w+)\.(lora_[AB])\.weight", re.ASCII
)
PLAIN: Mapping[str, tuple[object, ...]] = {  # values with which a setting changes nothing
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False,),
    "use_rslora": (False,),
    "use_qalora": (False,),
    "lora_bias": (False,),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None,),
    "alora_invocation_tokens": (None,),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),  # others change W as well
}


def write_adapter(
    folder: Path, parameters: Mapping[str, Tensor], config: LoraConfig, base: str
) -> None:
    """Writes the adapter among the parameters of a model with LoRA, in main memory, for peft.

    base is the name of the model that it belongs to. Raises OSError where it cannot be written.
    """
    tensors = {
        peft_name(name): tensor.detach().contiguous()
        for name, tensor in parameters.items()
        if name.endswith((A, B))
    }
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": int(config.alpha) if config.alpha == int(config.alpha) else config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": [
            theirs for own, theirs in PEFT_NAMES.items() if own.partition(".")[2] in config.targets
        ],
        "fan_in_fan_out": True,
        "bias": "none",
        "inference_mode": True,
    }
    text = json.dumps(settings, indent=2) + "\n"
    write_tensors(folder / TENSORS_FILE, tensors, {"format": "pt"})
    write_whole(folder / CONFIG_FILE, lambda part: part.write_text(text, encoding="utf-8"))


def peft_name(name: str) -> str:
    """Returns peft's name of blocks.N.PART.MATRIX.lora_A or lora_B."""
    _, block, part, matrix, factor = name.split(".")
    layer = PEFT_NAMES[f"{part}.{matrix}"]
    return f"base_model.model.transformer.h.{block}.{layer}.{factor}.weight"


@dataclass(frozen=True)
class Numbers:
    """The numbers of adapter_config.json, by peft's names."""

    r: int
    lora_alpha: float
    lora_dropout: float


class Adapter(NamedTuple):
    """An adapter that was read: its settings, and its tensors by their names here, in fp32."""

    config: LoraConfig
    tensors: dict[str, Tensor]


def load_adapter(model: GPT2Model, config: LoraConfig) -> None:
    """Puts config.adapter into a model to which add_lora has given LoRA by the same config.

    Raises FileNotFoundError where a file is missing, ValueError where it does not fit.
    """
    assert config.adapter
    folder, (saved, tensors) = config.adapter, read_adapter(config.adapter)
    require(
        (saved.rank, saved.alpha, set(saved.targets))
        == (config.rank, config.alpha, set(config.targets)),
        f"--lora.adapter {folder} has other settings than are given here; write "
        f"--lora.rank {saved.rank} --lora.alpha {saved.alpha:g} "
        f"--lora.targets {' '.join(saved.targets)}",
    )
    own = {name: p for name, p in model.named_parameters() if name.endswith((A, B))}
    wrong = f"--lora.adapter {folder} does not fit the model:"
    for name in sorted(own.keys() ^ tensors.keys()):
        require(name in tensors, f"{wrong} it has nothing for {name}")
        require(name in own, f"{wrong} the model has no {name}")
    for name, parameter in own.items():
        shapes = tuple(tensors[name].shape), tuple(parameter.shape)
        require(shapes[0] == shapes[1], f"{wrong} {name} is {shapes[0]}, not {shapes[1]}")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


def read_adapter(folder: Path) -> Adapter:
    """Reads an adapter that peft or a run here has written.

    Raises FileNotFoundError where a file is missing, ValueError where it is no LoRA of a GPT-2.
    """
    advice = "name a folder that peft has saved, or the adapter/ of a run"
    for name in (CONFIG_FILE, TENSORS_FILE):
        require_file(folder / name, advice, "--lora.adapter:")
    settings = read_json_object(folder / CONFIG_FILE)
    tensors = read_tensors(folder / TENSORS_FILE)
    try:
        require_plain(settings)
        keys = ("r", "lora_alpha", "lora_dropout")
        numbers = validate(Numbers, {key: settings.get(key) for key in keys})
        config = LoraConfig(
            rank=numbers.r,
            alpha=numbers.lora_alpha,
            dropout=numbers.lora_dropout,
            targets=targets_of(tensors),
        )
    except ValueError as error:
        reason = str(error).replace("--lora.", "").partition("; try")[0]
        raise ValueError(f"{folder / CONFIG_FILE} cannot be used: {reason}") from None
    return Adapter(config, tensors)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Returns the tensors of an adapter by their names here, in fp32."""
    try:
        saved = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} cannot be read: {' '.join(str(error).split())}") from None
    tensors: dict[str, Tensor] = {}
    for name, tensor in saved.items():
        match = TENSOR.fullmatch(name)
        if match is None or match[2] not in OWN_NAMES:
            raise ValueError(
                f"{file} cannot be used: {shortened(name)} belongs to no matrix of GPT-2's blocks"
            )
        tensors[f"blocks.{match[1]}.{OWN_NAMES[match[2]]}.{match[3]}"] = tensor.float()
    return tensors


def targets_of(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Returns which matrices of a block have an adapter."""
    found = {name.split(".")[-2] for name in tensors}
    return tuple(name for name in MATRICES if name in found)


def require_plain(settings: Mapping[str, object]) -> None:
    """Raises ValueError for the first of peft's settings that means more than W + scale B A."""
    for key, plain in PLAIN.items():
        value = settings.get(key, plain[0])
        require(
            value in plain,
            f"{key} {shortened(json.dumps(value))} is another method than LoRA on GPT-2's "
            f"matrices, which has {json.dumps(plain[0])} there",
        )
