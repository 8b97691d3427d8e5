"""Folders with a small GPT-2, saved by transformers or written by hand as its versions do.

The model is scripted: after the token at position p it greedily writes script[p], since its
position embedding is that token's embedding many times over. So a test knows where a text ends.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")
TEXTS = ["The cat sat on the mat, and it slept. " * 20, "Мама мыла раму, а кот спал. " * 20]
OWN = Tokenizer.train(TEXTS, 300)
N_TOKENS = OWN.vocab_size  # <|endoftext|> is id 0
N_POSITIONS = 32
PLAIN = [*range(100, 100 + N_POSITIONS)]  # a script of ordinary tokens
END_AT = 12  # the position behind which a script ends a text


def ending_with(end: int) -> list[int]:
    """Returns a script that writes `end` behind position END_AT."""
    return [*PLAIN[:END_AT], end, *PLAIN[END_AT + 1 :]]


def save_model(
    folder: Path,
    script: Sequence[int],
    vocab_size: int = N_TOKENS,
    *,
    dtype: torch.dtype = torch.float32,
    **settings: object,
) -> nn.Module:
    """Saves a scripted model with transformers; settings go into its config.json."""
    torch.manual_seed(3)
    sizes = {"n_positions": N_POSITIONS, "n_embd": 64, "n_layer": 2, "n_head": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = transformers.GPT2Config(vocab_size=vocab_size, **(sizes | ends | settings))
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        embedding = torch.nn.functional.normalize(torch.randn(vocab_size, 64))
        model.transformer.wte.weight.copy_(embedding)
        model.transformer.wpe.weight.copy_(8 * embedding[torch.tensor(script)])
    model.to(dtype).save_pretrained(folder)
    return model


def files_of(tokenizer: Tokenizer) -> tuple[dict[str, int], list[list[str]]]:
    """Returns the vocabulary and the merges of a tokenizer."""
    model = json.loads(tokenizer.to_json())["model"]
    return model["vocab"], model["merges"]


def write(folder: Path, **contents: object) -> None:
    """Writes JSON files: write(folder, added_tokens={...}) writes added_tokens.json."""
    folder.mkdir(exist_ok=True)
    for name, value in contents.items():
        text = json.dumps(value, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


def change(folder: Path, name: str, *removed: str, **settings: object) -> None:
    """Removes keys of a JSON file and sets others."""
    file = folder / f"{name}.json"
    contents = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    kept = {key: value for key, value in contents.items() if key not in removed}
    write(folder, **{name: kept | settings})


def write_two_files(folder: Path, renamed: dict[str, str] | None = None) -> None:
    """Writes vocab.json and merges.txt, with other names for some tokens."""
    vocabulary, merges = files_of(OWN)
    names = renamed or {}
    write(folder, vocab={names.get(token, token): id for token, id in vocabulary.items()})
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def weights_of(folder: Path) -> dict[str, Tensor]:
    """Removes model.safetensors and returns its tensors."""
    file = folder / "model.safetensors"
    weights = {name: tensor.clone() for name, tensor in load_file(file).items()}
    file.unlink()
    return weights


def write_weights(folder: Path, weights: dict[str, Tensor]) -> None:
    """Writes model.safetensors."""
    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_file(contiguous, folder / "model.safetensors", {"format": "pt"})
