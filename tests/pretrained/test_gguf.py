"""GGUF files: transformers reads them back, and llama.cpp generates the same greedy text."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, pre_tokenizers
from tokenizers import Tokenizer as Library

import main
from cfg_gpt2 import GPT2Config
from generation import SamplingConfig, generate
from gpt2 import GPT2Model
from pretrained.gguf import Precision, write_gguf
from run_directory.generation_config import GenerationTokens
from tokenizer import Tokenizer

gguf = pytest.importorskip("gguf")
ENGLISH = "The cat sat on the mat, and it slept. It's 12 o'clock!\n" * 20
RUSSIAN = "Мама мыла раму, а кот спал — «тихо». Ёж ел 3 яблока.\n" * 20
TOKENIZERS = {
    "bpe": (Tokenizer.train([ENGLISH], 300), ENGLISH),
    "Russian bpe": (Tokenizer.train([RUSSIAN], 330), RUSSIAN),
    "characters": (Tokenizer.characters([ENGLISH, RUSSIAN, "🦙"]), RUSSIAN + "🦙"),
    "ASCII characters": (Tokenizer.characters([ENGLISH]), ENGLISH),
}
SIZES = {"context_length": 48, "n_layer": 3, "n_head": 4, "n_embd": 64}
ROUNDING = 1e-5  # fp32 sums of 64 to 256 products of about 1 in another order, some 20 in a row


def with_weights(vocab_size: int, *, bias: bool = True) -> GPT2Model:
    """A model in which no weight is 0 or 1, or it would prove nothing."""
    torch.manual_seed(7)
    model = GPT2Model(GPT2Config(vocab_size=vocab_size, bias=bias, **SIZES)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def fields(path: Path) -> dict[str, object]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def greedy(model: GPT2Model, prompt: list[int], n: int) -> list[int]:
    return generate(model, [prompt], SamplingConfig(max_new_tokens=n, temperature=0.0))[0]


@pytest.mark.parametrize("bias", [True, False])
def test_transformers_reads_a_gguf_file_back_as_the_same_model(bias: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    tokenizer, _ = TOKENIZERS["bpe"]
    ours = with_weights(tokenizer.vocab_size, bias=bias)
    write_gguf(ours, tokenizer, tmp_path / "model.gguf")
    # transformers 5.23 takes n_positions from nowhere but its own default, 1024
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", n_positions=48
    ).eval()
    tokens = torch.randint(tokenizer.vocab_size, (2, 48))
    with torch.inference_mode():
        assert (ours(tokens) - theirs(tokens).logits).abs().max() < ROUNDING
    generated = theirs.generate(
        tokens[:1, :4], max_new_tokens=30, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert generated[0, 4:].tolist() == greedy(ours, tokens[0, :4].tolist(), 30)


@pytest.mark.parametrize("name", ["bpe", "Russian bpe"])
def test_transformers_gives_the_same_ids_with_the_vocabulary_of_a_gguf_file(
    name: str, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer, text = TOKENIZERS[name]
    write_gguf(with_weights(tokenizer.vocab_size), tokenizer, tmp_path / "model.gguf")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    assert theirs(text).input_ids == tokenizer.encode(text)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_llama_cpp_gives_the_same_ids_and_the_same_greedy_text(name: str, tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    tokenizer, text = TOKENIZERS[name]
    ours = with_weights(tokenizer.vocab_size)
    write_gguf(ours, tokenizer, tmp_path / "model.gguf")
    theirs = llama_cpp.Llama(str(tmp_path / "model.gguf"), n_ctx=48, verbose=False, n_threads=1)
    assert theirs.tokenize(text.encode(), add_bos=False) == tokenizer.encode(text)
    prompt = tokenizer.encode(text)[:6]
    assert theirs.detokenize(prompt).decode("utf-8", "replace") == tokenizer.decode(prompt)
    generated = theirs.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0)
    assert [token for _, token in zip(range(30), generated, strict=False)] == greedy(
        ours, prompt, 30
    )


def test_llama_cpp_gives_the_same_logits_for_ids_without_a_tokenizer(tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    ours = with_weights(90)
    write_gguf(ours, None, tmp_path / "model.gguf")
    theirs = llama_cpp.Llama(
        str(tmp_path / "model.gguf"), n_ctx=48, verbose=False, n_threads=1, logits_all=True
    )
    tokens = torch.randint(90, (40,)).tolist()
    theirs.eval(tokens)
    with torch.inference_mode():
        expected = ours(torch.tensor([tokens]))[0].numpy()
    # llama.cpp keeps keys and values in fp16: 11 bits of sums of about 1, through 3 blocks
    assert np.abs(theirs.scores[:40] - expected).max() < 2e-2


# How far a weight may be from what it was: nothing, half a unit of 11 or of 8 bits, half of 1/127
BOUNDS: dict[Precision, float] = {"fp32": 0.0, "fp16": 2**-11, "bf16": 2**-8, "q8_0": 0.5 / 127}


@pytest.mark.parametrize(("precision", "bound"), BOUNDS.items())
def test_stored_weights_differ_by_the_rounding_of_their_precision_at_most(
    precision: Precision, bound: float, tmp_path: Path
) -> None:
    ours = with_weights(64)
    write_gguf(ours, None, tmp_path / "model.gguf", precision)
    stored = {t.name: t for t in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    for own, name in (
        ("token_embedding.weight", "token_embd.weight"),
        ("blocks.1.attention.qkv_proj.weight", "blk.1.attn_qkv.weight"),
        ("blocks.2.feedforward.narrow_proj.weight", "blk.2.ffn_down.weight"),
    ):
        tensor, expected = stored[name], ours.state_dict()[own].numpy()
        restored = gguf.dequantize(tensor.data, tensor.tensor_type)
        # q8_0 rounds to steps of the largest of 32 neighbours, and keeps the step in fp16
        scale = np.abs(expected)
        if precision == "q8_0":
            scale = scale.reshape(-1, 32).max(axis=1).repeat(32).reshape(scale.shape)
            scale = scale * (1 + 127 * 2 * 2**-11)
        assert (np.abs(restored - expected) <= bound * scale + 1e-7 * (bound > 0)).all()
        assert bool((restored != expected).any()) == (precision != "fp32")
    for own, name in (
        ("position_embedding.weight", "position_embd.weight"),
        ("blocks.0.attention.qkv_proj.bias", "blk.0.attn_qkv.bias"),
        ("final_norm.weight", "output_norm.weight"),
    ):
        assert (stored[name].data == ours.state_dict()[own].numpy()).all()


def test_the_header_of_a_gguf_file_has_the_sizes_and_the_vocabulary(tmp_path: Path) -> None:
    tokenizer, _ = TOKENIZERS["bpe"]
    ours = with_weights(tokenizer.vocab_size + 2)
    write_gguf(ours, tokenizer, tmp_path / "model.gguf", "fp16")
    header = fields(tmp_path / "model.gguf")
    for key, value in {
        "general.architecture": "gpt2", "general.file_type": 1, "gpt2.block_count": 3,
        "gpt2.context_length": 48, "gpt2.embedding_length": 64, "gpt2.feed_forward_length": 256,
        "gpt2.attention.head_count": 4, "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.eos_token_id": tokenizer.end_of_text,
    }.items():  # fmt: skip
        assert header[key] == value, key
    assert header["gpt2.attention.layer_norm_epsilon"] == pytest.approx(1e-5)
    tokens, types = header["tokenizer.ggml.tokens"], header["tokenizer.ggml.token_type"]
    assert isinstance(tokens, list) and isinstance(types, list)
    assert tokens[0] == "<|endoftext|>" and types[0] == gguf.TokenType.CONTROL
    assert types[-3:] == [gguf.TokenType.NORMAL] + 2 * [gguf.TokenType.UNUSED]
    assert len(set(tokens)) == tokenizer.vocab_size + 2


def test_added_tokens_and_ends_have_their_types_in_a_gguf_file(tmp_path: Path) -> None:
    _, text = TOKENIZERS["bpe"]
    library = Library.from_str(Tokenizer.train([text], 300).to_json())
    library.add_special_tokens(["<|ask|>", "</s>"])
    library.add_tokens([AddedToken("título", normalized=False), "°C"])
    tokenizer = Tokenizer(library)
    n = tokenizer.vocab_size
    generation = GenerationTokens(n - 4, (n - 3, n + 1))
    write_gguf(with_weights(n + 2), tokenizer, tmp_path / "m.gguf", generation=generation)
    header = fields(tmp_path / "m.gguf")
    tokens, types = header["tokenizer.ggml.tokens"], header["tokenizer.ggml.token_type"]
    assert isinstance(tokens, list) and isinstance(types, list)
    kind = gguf.TokenType
    assert dict(zip(tokens[n - 4 :], types[n - 4 :], strict=True)) == {
        "<|ask|>": kind.CONTROL, "</s>": kind.CONTROL, "título": kind.USER_DEFINED,
        "°C": kind.USER_DEFINED, f"[unused {n}]": kind.UNUSED, f"[unused {n + 1}]": kind.CONTROL,
    }  # fmt: skip
    assert types[0] == kind.CONTROL and set(types[1 : n - 4]) == {kind.NORMAL}
    ends = ("bos", "eos", "eot")
    ids = [header[f"tokenizer.ggml.{name}_token_id"] for name in ends]
    assert ids == [n - 4, n - 3, n + 1]


def test_transformers_reads_the_added_tokens_of_a_gguf_file_as_one_token_each(
    tmp_path: Path,
) -> None:
    transformers = pytest.importorskip("transformers")
    _, text = TOKENIZERS["bpe"]
    library = Library.from_str(Tokenizer.train([text], 300).to_json())
    library.add_special_tokens(["<|ask|>", "<|answer|>"])
    tokenizer = Tokenizer(library)
    write_gguf(with_weights(tokenizer.vocab_size), tokenizer, tmp_path / "model.gguf")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    asked = "<|ask|>The cat<|answer|>"
    assert theirs(asked).input_ids == tokenizer.encode(asked, allow_special=True)


def test_another_word_pattern_is_refused_for_gguf(tmp_path: Path) -> None:
    tokenizer, _ = TOKENIZERS["bpe"]
    library = Library.from_str(tokenizer.to_json())
    parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    library.pre_tokenizer = pre_tokenizers.Sequence(parts)
    with pytest.raises(ValueError, match="cuts a text into other words than GPT-2's"):
        write_gguf(with_weights(300), Tokenizer(library), tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_for_gguf(number: float, tmp_path: Path) -> None:
    model = with_weights(64)
    with torch.no_grad():
        model.get_parameter("blocks.1.attention.out_proj.weight")[2, 3] = number
    for precision in BOUNDS:
        with pytest.raises(ValueError, match=r"out_proj\.weight has numbers that are NaN"):
            write_gguf(model, None, tmp_path / "model.gguf", precision)


def test_export_to_gguf_writes_the_named_file_or_model_gguf_in_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer, _ = TOKENIZERS["bpe"]
    run = tmp_path / "run"
    with_weights(tokenizer.vocab_size).save(run)
    tokenizer.save(run)
    for out, file in (("a/b.gguf", "a/b.gguf"), ("c", "c/model.gguf")):
        flags = ["--out", str(tmp_path / out), "--format", "gguf", "--precision", "q8_0"]
        assert main.main(["export", str(run), *flags]) == 0
        assert fields(tmp_path / file)["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
        assert f"llama-cli -m {tmp_path / file}" in capsys.readouterr().out


def test_an_unfinished_gguf_file_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, tensor: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", full)
    with pytest.raises(OSError, match="no space left"):
        write_gguf(with_weights(64), None, tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


def test_without_the_gguf_package_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ValueError, match=r'pip install -e "\.\[gguf\]"'):
        write_gguf(with_weights(64), None, tmp_path / "model.gguf")
