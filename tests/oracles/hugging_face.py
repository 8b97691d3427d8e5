"""Hugging Face's GPT-2 with the weights of ours: a second implementation to compare with."""

import torch
import transformers
from torch import Tensor, nn

from cfg_gpt2 import GPT2Config
from gpt2 import GPT2Model
from run_directory.weights import assign_weights

HUGGING_FACE_NAMES = {
    "token_embedding": "transformer.wte",
    "position_embedding": "transformer.wpe",
    "blocks": "transformer.h",
    "attention_norm": "ln_1",
    "attention.qkv_proj": "attn.c_attn",
    "attention.out_proj": "attn.c_proj",
    "feedforward_norm": "ln_2",
    "feedforward.widen_proj": "mlp.c_fc",
    "feedforward.narrow_proj": "mlp.c_proj",
    "final_norm": "transformer.ln_f",
}


def hugging_face_name(name: str) -> str:
    for own, theirs in HUGGING_FACE_NAMES.items():
        name = name.replace(own + ".", theirs + ".")
    return name


def turned(name: str, weight: Tensor) -> Tensor:
    """Hugging Face's Conv1D holds its matrices as (in, out); Linear holds them as (out, in)."""
    return weight.T if name.endswith("_proj.weight") else weight


def hugging_face_pair(config: GPT2Config) -> tuple[GPT2Model, nn.Module]:
    """Our model and Hugging Face's, with the same random weights, dropout off."""
    torch.manual_seed(3)
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.context_length,
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_embd=config.n_embd,
            bos_token_id=0,
            eos_token_id=0,
        )
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # biases and norms too, or they would prove nothing
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    with torch.device("meta"):
        ours = GPT2Model(config).eval()
    source = theirs.state_dict()
    weights = {
        name: turned(name, source[hugging_face_name(name)]).clone()
        for name, _ in ours.named_parameters()
    }
    assign_weights(ours, weights)
    return ours, theirs
