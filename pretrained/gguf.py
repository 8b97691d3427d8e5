"""Writing a GGUF file, which llama.cpp maps into memory: sizes, vocabulary and weights in one.

The matrices are stored in the requested precision; norms, biases and position embeddings, which
are small and added, stay in fp32. q8_0 stores 32 weights in 34 bytes: 8 bits each and one fp16
scale. One tensor is converted at a time, so that memory holds the model and little more.
transformers reads such files too, a context other than 1024 with n_positions=..., and of a
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
from pretrained.hugging_face import require_finite, require_fp16_range, weight_or_zeros
from pretrained.names import WeightName, name_table
from pretrained.vocabulary import Vocabulary, to_bpe
from run_directory.files import write_whole
from run_directory.generation_config import GenerationTokens
from tokenizer import Tokenizer

if TYPE_CHECKING:
    import gguf

Precision = Literal["fp32", "fp16", "bf16", "q8_0"]
GGML_TYPES: dict[Precision, str] = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
Q8_0_BLOCK_SIZE = 32  # weights that share a scale
UNUSED_MERGE = ("ÿ", "ÿ")  # two bytes 255, never in UTF-8: llama.cpp requires one merge


def write_gguf(
    model: GPT2Model,
    tokenizer: Tokenizer | None,
    path: Path,
    precision: Precision = "fp32",
    report: Callable[[int, int], None] = lambda done, total: None,
    generation: GenerationTokens | None = None,
    chat_template: str | None = None,
) -> None:
    """Writes a GGUF file, whole or not at all; without a tokenizer, llama.cpp works on ids only.

    report(done, total) is called with the count of numbers that have been written; generation is
    what begins and ends a text, None: the tokenizer's end of text does both; chat_template, in
    Jinja, is for a model that was tuned for chat.
    Raises ValueError where the gguf package is missing, the precision does not fit, the weights
    are not finite, or llama.cpp would cut a text into other words.
    """
    require(
        precision != "q8_0" or model.config.n_embd % Q8_0_BLOCK_SIZE == 0,
        f"--precision q8_0 needs a width that is a multiple of {Q8_0_BLOCK_SIZE}, "
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
            if tokenizer:
                end = tokenizer.end_of_text
                tokens = generation or GenerationTokens(end, (end,))
                add_vocabulary(writer, to_bpe(tokenizer), model.config.vocab_size, tokens, end)
                if chat_template is not None:
                    writer.add_chat_template(chat_template)
            else:
                writer.add_tokenizer_model("none")
                writer.add_vocab_size(model.config.vocab_size)
            add_weights(writer, model, precision, report)
        finally:
            writer.close()

    write_whole(path, write)


def add_sizes(writer: gguf.GGUFWriter, config: GPT2Config, precision: Precision) -> None:
    """Writes the sizes that llama.cpp builds the model from, and the type of the weights."""
    import gguf

    writer.add_name(f"GPT-2 {config.n_layer} x {config.n_embd}")
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(EPS)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    name = GGML_TYPES[precision]
    writer.add_file_type(gguf.LlamaFileType["ALL_F32" if name == "F32" else f"MOSTLY_{name}"])


def add_vocabulary(
    writer: gguf.GGUFWriter,
    vocabulary: Vocabulary,
    vocab_size: int,
    generation: GenerationTokens,
    end_of_text: int,
) -> None:
    """Writes tokens, merges and the ends; ids without a token get an unused name."""
    require(
        vocabulary.splits_as_gpt2,
        "the tokenizer cuts a text into other words than GPT-2's, which llama.cpp does not know; "
        "export with --format hf",
    )
    tokens = [vocabulary.token(id) for id in range(vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token or f"[unused {id}]" for id, token in enumerate(tokens)])
    writer.add_token_types(token_types(vocabulary, vocab_size, generation))
    writer.add_token_merges([" ".join(pair) for pair in vocabulary.merges or [UNUSED_MERGE]])
    writer.add_bos_token_id(generation.bos_token_id)
    end, *others = generation.eos_token_id or (end_of_text,)  # llama.cpp knows no model without
    writer.add_eos_token_id(end)
    if others:
        writer.add_eot_token_id(others[0])  # llama.cpp ends a text at both
    writer.add_unk_token_id(end_of_text)
    writer.add_add_bos_token(False)  # GPT-2 continues a prompt as it is


def token_types(
    vocabulary: Vocabulary, vocab_size: int, generation: GenerationTokens
) -> list[gguf.TokenType]:
    """Returns the type of each id: llama.cpp shows no CONTROL, and takes USER_DEFINED literally."""
    import gguf

    def type_of(id: int) -> gguf.TokenType:
        if id in vocabulary.special or id in generation.eos_token_id:
            return gguf.TokenType.CONTROL
        if id in vocabulary.literal:
            return gguf.TokenType.USER_DEFINED
        if vocabulary.token(id) is None:
            return gguf.TokenType.UNUSED
        return gguf.TokenType.NORMAL

    return [type_of(id) for id in range(vocab_size)]


def add_weights(
    writer: gguf.GGUFWriter,
    model: GPT2Model,
    precision: Precision,
    report: Callable[[int, int], None],
) -> None:
    """Writes the names, shapes and types of all tensors, then their data in the same order."""
    import gguf

    own = {name: p.detach().float().cpu() for name, p in model.named_parameters()}
    table = name_table(model.config.n_layer)
    for name in table:
        stored, shape = ggml_type(name, precision), tuple(weight_or_zeros(own, name).shape)
        n_bytes = math.prod(gguf.quant_shape_to_byte_shape(shape, stored))
        writer.add_tensor_info(name.gguf, shape, np.dtype(np.float32), n_bytes, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    done, total = 0, sum(tensor.numel() for tensor in own.values())
    for name in table:
        tensor = weight_or_zeros(own, name)
        require_finite(name.own, tensor)
        if precision == "fp16":
            require_fp16_range(name.own, tensor, tensor.half())
        writer.write_tensor_data(gguf.quantize(tensor.numpy(), ggml_type(name, precision)))
        done += tensor.numel()
        report(done, total)


def ggml_type(name: WeightName, precision: Precision) -> gguf.GGMLQuantizationType:
    """Returns the stored type of a tensor: only matrices of matmuls are in less than fp32."""
    import gguf

    is_matrix = name.transposed or name.own == "token_embedding.weight"
    return gguf.GGMLQuantizationType[GGML_TYPES[precision] if is_matrix else "F32"]
