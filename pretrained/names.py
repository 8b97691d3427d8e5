"""The name table: what each weight is called here, at Hugging Face and in llama.cpp.

    blocks.3.attention.qkv_proj.weight     here
    h.3.attn.c_attn.weight, turned         at Hugging Face
    blk.3.attn_qkv.weight                  in llama.cpp

One table, read in every direction. Hugging Face keeps GPT-2's Conv1D, whose matrices are stored
as (in, out); Linear, here and in llama.cpp, stores them as (out, in). So those are turned.
Previous: gpt2.py.  Next: config_json.py.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

PREFIX = "transformer."  # GPT2LMHeadModel has it before every name, GPT2Model has not
HEAD = "lm_head.weight"  # the token embedding once more, where a file has it at all
MASKS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")  # constants that old files carry along


@dataclass(frozen=True)
class WeightName:
    """A weight's three names; turned: its matrix is stored the other way round at Hugging Face."""

    own: str
    hugging_face: str
    gguf: str
    turned: bool = False


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
    """Every weight of a model with n_layer blocks, in Hugging Face's order."""
    table = named(EMBEDDINGS, ("", "", ""))
    for i in range(n_layer):
        table += named(BLOCK, (f"blocks.{i}.", f"h.{i}.", f"blk.{i}."))
    return table + named(FINAL_NORM, ("", "", ""))


def named(rows: Rows, before: tuple[str, str, str]) -> list[WeightName]:
    """The weights and biases of the rows, with what stands before each of the three names."""
    return [
        WeightName(
            own=f"{before[0]}{own}.{kind}",
            hugging_face=f"{before[1]}{hugging_face}.{kind}",
            gguf=f"{before[2]}{gguf}.{kind}",
            turned=kind == "weight" and own.endswith("_proj"),
        )
        for own, hugging_face, gguf, kinds in rows
        for kind in kinds
    ]
