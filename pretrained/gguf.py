"""A file that llama.cpp loads: sizes, vocabulary and weights in one, mapped into memory.

The matrices are stored in the precision asked for; what is small and added stays in fp32: norms,
biases, position embeddings. q8_0 holds 32 weights in 34 bytes: 8 bits each and one fp16 scale.
One tensor at a time is converted, so that memory holds the model and little more.
transformers reads such files too: of a context other than 1024 with n_positions=..., and of a
tokenizer of characters the weights only.
Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md.
Previous: hugging_face.py.  Next: export_command.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from cfg_gpt2 import GPT2Config, require
from gpt2 import GPT2Model
from layer_norm import EPS
from pretrained.hugging_face import refuse_overflow, weight_or_zeros
from pretrained.names import WeightName, name_table
from pretrained.vocabulary import Vocabulary, bpe_of
from run_directory.files import write_whole
from tokenizer import Tokenizer

if TYPE_CHECKING:
    import gguf

Precision = Literal["fp32", "fp16", "bf16", "q8_0"]
KINDS: dict[Precision, str] = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
IN_Q8_0 = 32  # weights that share a scale
NEVER = ("ÿ", "ÿ")  # the byte 255 twice, which no UTF-8 has: llama.cpp wants at least one merge


def write_gguf(
    model: GPT2Model,
    tokenizer: Tokenizer | None,
    path: Path,
    precision: Precision = "fp32",
    report: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Writes path, whole or not at all. Without a tokenizer, llama.cpp takes and gives ids only.

    report(done, total) is told how many numbers have been written.
    Raises ValueError where the gguf package is missing or the precision does not fit.
    """
    require(
        precision != "q8_0" or model.config.n_embd % IN_Q8_0 == 0,
        f"--precision q8_0 needs a width that is a multiple of {IN_Q8_0}, "
        f"not {model.config.n_embd}; take fp16",
    )
    try:
        import gguf
    except ImportError:
        raise ValueError(
            'GGUF needs the package gguf; pip install -e ".[gguf]", or export with --format hf'
        ) from None

    def write(part: Path) -> None:
        writer = gguf.GGUFWriter(part, "gpt2")
        try:
            add_sizes(writer, model.config, precision)
            vocabulary = bpe_of(tokenizer) if tokenizer else None
            add_vocabulary(writer, vocabulary, model.config.vocab_size)
            add_weights(writer, model, precision, report)
        finally:
            writer.close()

    write_whole(path, write)


def add_sizes(writer: gguf.GGUFWriter, config: GPT2Config, precision: Precision) -> None:
    """What llama.cpp builds the model from."""
    import gguf

    writer.add_name(f"GPT-2 {config.n_layer} x {config.n_embd}")
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(EPS)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    kind = KINDS[precision]
    writer.add_file_type(gguf.LlamaFileType["ALL_F32" if kind == "F32" else f"MOSTLY_{kind}"])


def add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary | None, vocab_size: int) -> None:
    """Tokens, merges and the end of text; ids of the model that have no token are fillers."""
    import gguf

    if vocabulary is None:
        writer.add_tokenizer_model("none")
        writer.add_vocab_size(vocab_size)
        return
    known = [*vocabulary.tokens, *[None] * (vocab_size - len(vocabulary.tokens))]
    kinds = [gguf.TokenType.UNUSED if token is None else gguf.TokenType.NORMAL for token in known]
    kinds[vocabulary.end_of_text] = gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token or f"[unused {id}]" for id, token in enumerate(known)])
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in vocabulary.merges or [NEVER]])
    writer.add_bos_token_id(vocabulary.end_of_text)
    writer.add_eos_token_id(vocabulary.end_of_text)
    writer.add_unk_token_id(vocabulary.end_of_text)
    writer.add_add_bos_token(False)  # GPT-2 goes on with a prompt as it stands


def add_weights(
    writer: gguf.GGUFWriter,
    model: GPT2Model,
    precision: Precision,
    report: Callable[[int, int], None],
) -> None:
    """First what there is going to be, then the tensors in the same order."""
    import gguf

    own = {name: p.detach().float().cpu() for name, p in model.named_parameters()}
    table = name_table(model.config.n_layer)
    for name in table:
        kind, shape = kind_of(name, precision), tuple(weight_or_zeros(own, name).shape)
        n_bytes = math.prod(gguf.quant_shape_to_byte_shape(shape, kind))
        writer.add_tensor_info(name.gguf, shape, np.dtype(np.float32), n_bytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    done, total = 0, sum(tensor.numel() for tensor in own.values())
    for name in table:
        tensor = weight_or_zeros(own, name)
        if precision == "fp16":
            refuse_overflow(name.own, tensor, tensor.half())
        writer.write_tensor_data(gguf.quantize(tensor.numpy(), kind_of(name, precision)))
        done += tensor.numel()
        report(done, total)


def kind_of(name: WeightName, precision: Precision) -> gguf.GGMLQuantizationType:
    """How llama.cpp is to read a tensor: only the factors of matrix products are narrowed."""
    import gguf

    factor = name.turned or name.own == "token_embedding.weight"
    return gguf.GGMLQuantizationType[KINDS[precision] if factor else "F32"]
