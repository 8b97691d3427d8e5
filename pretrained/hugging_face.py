"""Writing a folder that transformers and other GPT-2 tools load.

Previous: vocabulary.py.  Next: gguf.py.
"""

import json
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from cfg_gpt2 import require
from gpt2 import GPT2Model
from pretrained.config_json import Json, config_json
from pretrained.names import PREFIX, WeightName, name_table
from pretrained.read_weights import all_finite
from pretrained.token_settings import TOKENIZER_CONFIG_FILE
from pretrained.vocabulary import to_bpe
from run_directory.chat_template import TEMPLATE_FILE
from run_directory.config_file import CONFIG_FILE
from run_directory.files import write_whole
from run_directory.generation_config import (
    GENERATION_CONFIG_FILE,
    GenerationTokens,
    generation_settings,
)
from run_directory.weights import WEIGHTS_FILE, write_tensors
from tokenizer import Tokenizer

Precision = Literal["fp32", "fp16", "bf16"]
DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
MAX_FP16 = torch.finfo(torch.float16).max


def write_folder(
    model: GPT2Model,
    tokenizer: Tokenizer,
    folder: Path,
    precision: Precision = "fp32",
    generation: GenerationTokens | None = None,
    chat_template: str | None = None,
) -> None:
    """Writes the weights, the tokenizer and last config.json, without which no tool loads them.

    generation is what begins and ends a text; None: the tokenizer's end of text does both.
    chat_template, in Jinja, is for a model that was tuned for chat.
    Raises ValueError for weights that are not finite or that fp16 cannot hold, OSError where the
    disk is full.
    """
    dtype, end = DTYPES[precision], tokenizer.end_of_text
    tokens = generation or GenerationTokens(end, (end,))
    write_tensors(folder / WEIGHTS_FILE, hugging_face_weights(model, dtype), {"format": "pt"})
    write_tokenizer(tokenizer, folder, model.config.context_length, tokens, chat_template)
    ids = generation_settings(tokens)
    write_json(folder / GENERATION_CONFIG_FILE, ids | {"pad_token_id": end})
    dtype_name = str(dtype).removeprefix("torch.")
    write_json(folder / CONFIG_FILE, config_json(model.config, ids, dtype_name))


def hugging_face_weights(model: GPT2Model, dtype: torch.dtype) -> dict[str, Tensor]:
    """Returns the weights by Hugging Face's names, with their matrices as it stores them."""
    own = {name: p.detach().cpu() for name, p in model.named_parameters()}
    weights: dict[str, Tensor] = {}
    for name in name_table(model.config.n_layer):
        tensor = weight_or_zeros(own, name)
        converted = (tensor.T if name.transposed else tensor).to(dtype).contiguous()
        require_finite(name.own, tensor)
        require_fp16_range(name.own, tensor, converted)
        weights[PREFIX + name.hugging_face] = converted
    return weights


def weight_or_zeros(own: dict[str, Tensor], name: WeightName) -> Tensor:
    """Returns a weight, or zeros for a bias that the model lacks: other programs require one."""
    if name.own in own:
        return own[name.own]
    return torch.zeros(own[name.own.removesuffix("bias") + "weight"].size(0))


def require_finite(name: str, tensor: Tensor) -> None:
    """Raises ValueError where a weight is NaN or infinite."""
    require(
        all_finite(tensor),
        f"{name} has numbers that are NaN or infinite, for the training diverged; go back to an "
        "earlier checkpoint, or train again with a lower --train.learning-rate",
    )


def require_fp16_range(name: str, tensor: Tensor, converted: Tensor) -> None:
    """Raises ValueError where the conversion to fp16 made a weight infinite."""
    if converted.dtype != torch.float16 or tensor.abs().max() <= MAX_FP16:
        return
    raise ValueError(
        f"{name} has weights above {MAX_FP16:.0f}, which fp16 cannot hold; "
        "take --precision bf16 or fp32"
    )


def write_tokenizer(
    tokenizer: Tokenizer,
    folder: Path,
    context_length: int,
    tokens: GenerationTokens,
    chat_template: str | None,
) -> None:
    """Writes tokenizer.json, AutoTokenizer's settings, and for BPE GPT-2's own two files."""
    vocabulary = to_bpe(tokenizer)
    settings: Json = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # reads tokenizer.json unchanged
        "bos_token": vocabulary.token(tokens.bos_token_id) or tokenizer.end_token,
        **dict.fromkeys(("eos_token", "unk_token"), tokenizer.end_token),
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
    }
    if chat_template is not None:  # transformers 5 reads the file, others the setting
        settings["chat_template"] = chat_template
        write_text(folder / TEMPLATE_FILE, chat_template)
    write_json(folder / TOKENIZER_CONFIG_FILE, settings)
    tokenizer.save(folder)
    # GPT-2's own two files leave the word pattern to the reader, and need a token for every byte
    if not vocabulary.merges or not vocabulary.has_all_parts():
        return
    if not vocabulary.splits_as_gpt2:
        return
    ids = {token: id for id, token in enumerate(vocabulary.tokens) if token is not None}
    write_json(folder / "vocab.json", ids)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in vocabulary.merges)]
    write_text(folder / "merges.txt", "\n".join(lines) + "\n")


def write_json(file: Path, contents: Json | dict[str, int]) -> None:
    """Writes a JSON file, whole or not at all."""
    write_text(file, json.dumps(contents, indent=2, ensure_ascii=False) + "\n")


def write_text(file: Path, text: str) -> None:
    """Writes a text file, whole or not at all, with the same bytes on every system."""
    write_whole(file, lambda part: part.write_text(text, encoding="utf-8", newline="\n"))
