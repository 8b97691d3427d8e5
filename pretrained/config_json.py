"""Hugging Face's config.json: read into a GPT2Config, written from one.

The file can describe other models than GPT-2: another activation, an untied output layer,
attention scaled by layer. Each such setting is refused by name, because the weights would load and
the logits would be wrong.
Previous: names.py.  Next: bin_file.py.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cfg_gpt2 import GPT2Config, require
from layer_norm import EPS
from run_directory.config_file import CONFIG_FILE
from run_directory.json_file import quoted, read_json_object, shortened
from run_directory.printable import main_command

# field of GPT2Config -> key of config.json; a missing key means the value of GPT-2 small
SIZE_KEYS = {
    "vocab_size": "vocab_size",
    "context_length": "n_positions",
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "n_embd",
}
OTHER_NAMES = {  # that transformers reads as well
    "n_positions": "max_position_embeddings",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_embd": "hidden_size",
}
DROPOUT_KEYS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
# one function under five names
TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_python_tanh", "gelu_accurate")
Json = dict[str, object]


@dataclass(frozen=True)
class ParsedConfig:
    """What a config.json says, and a line for each setting that is not taken over as it is."""

    model: GPT2Config
    notes: list[str]
    settings: Json  # all of the file
    tied: bool  # whether the output layer is the token embedding


def read_config_json(folder: Path) -> ParsedConfig:
    """Reads folder/config.json.

    Raises FileNotFoundError where there is none, ValueError where it does not describe a GPT-2.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; {suggest_next_step(folder)}")
    settings = read_json_object(file)
    require(
        "format_version" not in settings,
        f"{folder} is a run directory already; use it as it is: {main_command('generate', folder)}",
    )
    for name, other in OTHER_NAMES.items():
        if name not in settings and other in settings:
            settings[name] = settings[other]
    try:
        require_gpt2(settings)
        return ParsedConfig(
            model=parse_sizes(settings),
            notes=dropout_notes(settings),
            settings=settings,
            tied=settings.get("tie_word_embeddings", True) is True,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{SIZE_KEYS[str(first['loc'][0])]}: " if first["loc"] else ""
        reason = in_keys_of_config_json(first["msg"].removeprefix("Value error, "))
        raise ValueError(f"{file} cannot be used: {where}{reason}") from None
    except ValueError as error:
        raise ValueError(f"{file} cannot be used: {error}") from None


def in_keys_of_config_json(message: str) -> str:
    """Returns a message about flags of train, without its advice, in the keys of config.json."""
    return re.sub(
        r"--model\.([a-z-]+)",
        lambda flag: SIZE_KEYS.get(flag[1].replace("-", "_"), flag[1]),
        message.partition("; try")[0],
    )


def suggest_next_step(folder: Path) -> str:
    """Returns what a user can do about a folder without config.json."""
    if not folder.is_dir():
        return "name a folder that transformers saved, or a name on the hub such as gpt2"
    if list(folder.glob("model.ckpt*")):
        return (
            "OpenAI's TensorFlow checkpoints are not supported, only TensorFlow reads them; "
            "the hub has the same weights: python main.py import gpt2"
        )
    return f"place it beside the weights in {folder}"


def require_gpt2(settings: Json) -> None:
    """Raises ValueError for the first setting that describes another model than GPT-2."""
    architectures = settings.get("architectures") or ["GPT2LMHeadModel"]
    kind = settings.get("model_type", "gpt2" if "GPT2" in str(architectures) else None)
    require(
        kind == "gpt2",
        f"model_type {shortened(str(kind))} is another architecture; this is GPT-2 only",
    )
    activation = settings.get("activation_function", TANH_GELU[0])
    require(
        activation in TANH_GELU,
        f"activation_function {shortened(str(activation))} is another model's; GPT-2's is "
        f"{TANH_GELU[0]}",
    )
    width, inner = settings.get("n_embd", GPT2Config().n_embd), settings.get("n_inner")
    require(
        inner is None or (isinstance(width, int) and inner == 4 * width),
        f"n_inner {quoted(inner)} is another model's; GPT-2's is 4 n_embd, {quoted(width)} times 4",
    )
    for key, gpt2, meaning in (
        ("scale_attn_weights", True, "attention scores that are not scaled"),
        ("scale_attn_by_inverse_layer_idx", False, "attention that is scaled by layer"),
        ("add_cross_attention", False, "cross attention"),
        ("layer_norm_epsilon", EPS, "another small number in LayerNorm"),
        ("quantization_config", None, "quantized weights"),
    ):
        value = settings.get(key, gpt2)
        require(
            value == gpt2,
            f"{key} {quoted(value)} is {meaning}; GPT-2 has {quoted(gpt2)} there",
        )


def parse_sizes(settings: Json) -> GPT2Config:
    """Returns the sizes, and as the dropout rate the highest of Hugging Face's three."""
    sizes = {own: settings[key] for own, key in SIZE_KEYS.items() if key in settings}
    sizes["dropout"] = max(dropout_rates(settings).values())
    return TypeAdapter(GPT2Config).validate_json(json.dumps(sizes), strict=True)


def dropout_rates(settings: Json) -> dict[str, float]:
    """Returns the three dropout rates by name. Raises ValueError for a value outside 0 to 1."""
    rates: dict[str, float] = {}
    for key in DROPOUT_KEYS:
        rate = settings.get(key, GPT2Config().dropout)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise ValueError(
                f"{key} {quoted(rate)} is no dropout rate; one is at least 0 and below 1"
            )
        rates[key] = float(rate)
    return rates


def dropout_notes(settings: Json) -> list[str]:
    """Returns a line about the dropout rates where the three differ, otherwise nothing."""
    rates = dropout_rates(settings)
    if len(set(rates.values())) <= 1:
        return []
    listed = ", ".join(f"{key} {rate}" for key, rate in rates.items())
    return [f"dropout   {listed}: training here has one rate, the highest of them"]


def config_json(model: GPT2Config, generation: Json, dtype: str) -> Json:
    """Returns the config.json that transformers, CTranslate2 and llama.cpp's converter read."""
    sizes = {key: getattr(model, own) for own, key in SIZE_KEYS.items()}
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **sizes,
        "n_ctx": model.context_length,
        "n_inner": None,
        "activation_function": TANH_GELU[0],
        "layer_norm_epsilon": EPS,
        **dict.fromkeys(DROPOUT_KEYS, model.dropout),
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
        "tie_word_embeddings": True,
        **generation,
        "dtype": dtype,
        "torch_dtype": dtype,
    }
