"""The name table: the names of each weight here, at Hugging Face and in llama.cpp.

    blocks.3.attention.qkv_proj.weight     here
    h.3.attn.c_attn.weight, transposed     at Hugging Face
    blk.3.attn_qkv.weight                  in llama.cpp

The same table serves import and export. Hugging Face keeps GPT-2's Conv1D, which stores a matrix
as (in, out); Linear, here and in llama.cpp, stores it as (out, in). Such a matrix is transposed.
Previous: ../gpt2.py.  Next: config_json.py.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

PREFIX = "transformer."  # before every name of GPT2LMHeadModel, before none of GPT2Model
EMBEDDING, LM_HEAD = "wte.weight", "lm_head.weight"  # one tied weight; a file has either or both
MASK_BUFFERS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")  # constants in older files


@dataclass(frozen=True)
class WeightName:
    """The three names of a weight, and whether Hugging Face stores its matrix transposed."""

    own: str
    hugging_face: str
    gguf: str
    transposed: bool = False


WEIGHT, BOTH = ("weight",), ("weight", "bias")
EMBEDDINGS = (
    ("token_embedding", "wte", "token_embd", WEIGHT),
    ("position_embedding", "wpe", "position_embd", WEIGHT),
)
BLOCK = (
    ("attention_norm", "ln_1", "attn_norm", BOTH),
    ("attention.qkv_proj", "attn.c_attn", "attn_qkv", BOTH),
    ("attention.out_proj", "attn.c_proj", "attn_output", BOTH),
    ("feedforward_norm", "ln_2", "ffn_norm", BOTH),
    ("feedforward.widen_proj", "mlp.c_fc", "ffn_up", BOTH),
    ("feedforward.narrow_proj", "mlp.c_proj", "ffn_down", BOTH),
)
FINAL_NORM = (("final_norm", "ln_f", "output_norm", BOTH),)
Rows = Iterable[tuple[str, str, str, tuple[str, ...]]]


def name_table(n_layer: int) -> list[WeightName]:
    """Returns every weight of a model with n_layer blocks, in Hugging Face's order."""
    table = weight_names(EMBEDDINGS, ("", "", ""))
    for i in range(n_layer):
        table += weight_names(BLOCK, (f"blocks.{i}.", f"h.{i}.", f"blk.{i}."))
    return table + weight_names(FINAL_NORM, ("", "", ""))


def weight_names(rows: Rows, prefixes: tuple[str, str, str]) -> list[WeightName]:
    """Returns the weights and biases of some rows, with a prefix for each of the three names."""
    return [
        WeightName(
            own=f"{prefixes[0]}{own}.{kind}",
            hugging_face=f"{prefixes[1]}{hugging_face}.{kind}",
            gguf=f"{prefixes[2]}{gguf}.{kind}",
            transposed=kind == "weight" and own.endswith("_proj"),
        )
        for own, hugging_face, gguf, kinds in rows
        for kind in kinds
    ]
