"""Import: a model that transformers saved, in each of four forms, gives the same logits."""

import json
import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from oracles.gpt2_folders import weights_of
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import main
from cfg_gpt2 import GPT2Config
from generation import SamplingConfig, generate
from gpt2 import GPT2Model
from pretrained.names import name_table
from run_directory.config_file import read_config
from tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")
TEXTS = ["The cat sat on the mat, and it slept. " * 20, "Мама мыла раму, а кот спал. " * 20]
SIZES = {"n_positions": 48, "n_embd": 40, "n_layer": 3, "n_head": 4}
# fp32 sums of 40 to 160 products of about 1 in another order, some 20 of them one after the other
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, 300)


@pytest.fixture(scope="module")
def theirs(tokenizer: Tokenizer) -> nn.Module:
    """Hugging Face's model with weights of which none is 0 or 1, or they would prove nothing."""
    torch.manual_seed(5)
    config = transformers.GPT2Config(
        vocab_size=tokenizer.vocab_size, **SIZES, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


@pytest.fixture
def saved(theirs: nn.Module, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """A folder as transformers saves it, with a tokenizer."""
    folder = tmp_path / "saved"
    transformers.GPT2LMHeadModel.save_pretrained(theirs, folder)
    tokenizer.save(folder)
    return folder


def imported(folder: Path) -> GPT2Model:
    out = folder.parent / "run"
    assert main.main(["import", str(folder), "--out", str(out)]) == 0
    return GPT2Model.load(out)


def logits_of(theirs: nn.Module, tokens: Tensor) -> Tensor:
    with torch.inference_mode():
        return theirs(tokens).logits


def assert_same_logits(ours: GPT2Model, theirs: nn.Module, bound: float = ROUNDING) -> None:
    tokens = torch.randint(ours.config.vocab_size, (2, ours.config.context_length))
    with torch.inference_mode():
        assert (ours(tokens) - logits_of(theirs, tokens)).abs().max() < bound


def as_bin(folder: Path, weights: dict[str, Tensor], *, zipped: bool = True) -> None:
    """Leaves the folder with pytorch_model.bin alone; zipped=False writes the format of 2019."""
    (folder / "model.safetensors").unlink()
    file = folder / "pytorch_model.bin"
    torch.save(weights, file, _use_new_zipfile_serialization=zipped)


def in_shards(folder: Path, weights: dict[str, Tensor], suffix: str) -> None:
    """Leaves the folder with three shards and their index."""
    (folder / "model.safetensors").unlink()
    single = {"safetensors": "model.safetensors", "bin": "pytorch_model.bin"}[suffix]
    stem, places = single.removesuffix("." + suffix), {}
    for number in range(3):
        shard = f"{stem}-{number + 1:05d}-of-00003.{suffix}"
        part = {name: weights[name].contiguous() for name in list(weights)[number::3]}
        torch.save(part, folder / shard) if suffix == "bin" else save_file(part, folder / shard)
        places |= dict.fromkeys(part, shard)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / f"{single}.index.json").write_text(json.dumps(index))


def rewritten(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Replaces the contents of the weights file."""
    file = folder / "model.safetensors"
    weights = {name: tensor.clone() for name, tensor in load_file(file).items()}
    save_file({n: t.contiguous() for n, t in change(weights).items()}, file)


def with_config(folder: Path, **settings: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


# Imported models ----------------------------------------------------------------------------


def test_an_imported_run_gives_the_logits_of_transformers(
    saved: Path, theirs: nn.Module, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = imported(saved)
    assert ours.config == GPT2Config(
        vocab_size=tokenizer.vocab_size, context_length=48, n_layer=3, n_head=4, n_embd=40
    )
    assert_same_logits(ours, theirs)
    run = saved.parent / "run"
    assert {path.name for path in run.iterdir()} == {
        "config.json",
        "tokenizer.json",
        "model.safetensors",
    }
    assert f"{ours.n_parameters():,} parameters: 3 blocks, 4 heads" in capsys.readouterr().out
    assert read_config(run).data.tokenizer == str(run)
    assert Tokenizer.load(run).encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])
    assert main.main(["generate", str(run), "--prompt", "The", "--max-new-tokens", "3"]) == 0


def test_greedy_tokens_of_an_imported_model_equal_those_of_transformers(
    saved: Path, theirs: nn.Module
) -> None:
    ours = imported(saved)
    prompt = [5, 6, 7, 8]
    greedy = SamplingConfig(max_new_tokens=40, temperature=0.0)
    expected = transformers.GPT2LMHeadModel.generate(
        theirs, torch.tensor([prompt]), max_new_tokens=40, do_sample=False, eos_token_id=None,
        pad_token_id=0,
    )  # fmt: skip
    assert generate(ours, [prompt], greedy) == [expected[0, 4:].tolist()]


FORMS: dict[str, Callable[[Path, dict[str, Tensor]], None]] = {
    "a .bin": as_bin,
    "a .bin of 2019": lambda folder, weights: as_bin(folder, weights, zipped=False),
    "shards": lambda folder, weights: in_shards(folder, weights, "safetensors"),
    "shards of .bin": lambda folder, weights: in_shards(folder, weights, "bin"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_stored_weights_gives_the_same_logits(
    form: Callable[[Path, dict[str, Tensor]], None], saved: Path, theirs: nn.Module
) -> None:
    weights = {n: t for n, t in theirs.state_dict().items() if n != "lm_head.weight"}
    form(saved, weights)
    assert_same_logits(imported(saved), theirs)


def test_names_without_prefix_mask_buffers_and_a_stored_head_are_read(
    saved: Path, theirs: nn.Module
) -> None:
    def like_2019(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        short = {name.removeprefix("transformer."): t for name, t in weights.items()}
        for i in range(3):
            short[f"h.{i}.attn.bias"] = torch.ones(1, 1, 48, 48).tril()
            short[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
        return short | {"lm_head.weight": short["wte.weight"].clone()}

    rewritten(saved, like_2019)
    assert_same_logits(imported(saved), theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_imported_bit_for_bit(
    dtype: torch.dtype, saved: Path, theirs: nn.Module
) -> None:
    rewritten(saved, lambda weights: {n: t.to(dtype) for n, t in weights.items()})
    ours = imported(saved)
    expected = theirs.state_dict()["transformer.h.2.mlp.c_fc.weight"].to(dtype).float().T
    assert torch.equal(ours.state_dict()["blocks.2.feedforward.widen_proj.weight"], expected)


def test_a_vocabulary_in_two_files_is_imported(saved: Path, tokenizer: Tokenizer) -> None:
    model = json.loads((saved / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (saved / "tokenizer.json").unlink()
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in model["merges"])])
    (saved / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    (saved / "merges.txt").write_text(merges + "\n", encoding="utf-8")
    imported(saved)
    assert Tokenizer.load(saved.parent / "run").encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])


def test_sizes_missing_in_config_json_are_those_of_gpt2_small(saved: Path) -> None:
    from pretrained.config_json import read_config_json

    (saved / "config.json").write_text('{"model_type": "gpt2"}')
    assert read_config_json(saved).model == GPT2Config()


def test_the_name_table_has_every_weight_of_both_models_once(theirs: nn.Module) -> None:
    table = name_table(3)
    with torch.device("meta"):
        own = dict(GPT2Model(GPT2Config(n_layer=3, n_head=1, n_embd=8)).named_parameters())
    assert [name.own for name in table] == list(own)
    assert [f"transformer.{name.hugging_face}" for name in table] == [
        name for name, _ in theirs.named_parameters()
    ]
    assert len({name.gguf for name in table}) == len(table)


def test_dropout_rates_that_differ_are_reported(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_config(saved, attn_pdrop=0.25)
    assert imported(saved).config.dropout == 0.25
    assert "resid_pdrop 0.1, embd_pdrop 0.1, attn_pdrop 0.25" in capsys.readouterr().out


# Refused models -----------------------------------------------------------------------------


def code_in(folder: Path) -> None:
    """A .bin that would call os.mkdir when it is unpickled."""

    class Bomb:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return os.mkdir, (str(folder / "it-ran"),)

    (folder / "model.safetensors").unlink()
    torch.save({"wte.weight": Bomb()}, folder / "pytorch_model.bin")


def cut(file: Path, n_bytes: int) -> None:
    file.write_bytes(file.read_bytes()[:n_bytes])


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: rewritten(
        folder, lambda weights: {n: t for n, t in weights.items() if n != name}
    )


def shards_of(folder: Path) -> None:
    in_shards(folder, load_file(folder / "model.safetensors"), "safetensors")


def one_shard_less(folder: Path) -> None:
    shards_of(folder)
    (folder / "model-00002-of-00003.safetensors").unlink()


def leaving(folder: Path) -> None:
    shards_of(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-00002", "../model-00002"))


def cut_bin(folder: Path) -> None:
    as_bin(folder, load_file(folder / "model.safetensors"))
    cut(folder / "pytorch_model.bin", 5_000)


INDEX_FILE = "model.safetensors.index.json"
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 497774208\n"


def naming_config_json(folder: Path) -> None:
    shards_of(folder)
    index = folder / INDEX_FILE
    index.write_text(index.read_text().replace("model-00002-of-00003.safetensors", "config.json"))


def bin_of(folder: Path, contents: bytes) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(contents)


def zip_bomb(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    file = folder / "pytorch_model.bin"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(9_000_000))


def expanded_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    as_bin(folder, weights | {"transformer.wte.weight": torch.zeros(1).expand(10**6, 40)})


def with_number(number: float) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    def change(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        weights["transformer.h.1.ln_1.bias"][3] = number
        return weights

    return change


def longer_wte(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"transformer.wte.weight": torch.zeros(999, 40)}


def other_head(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"lm_head.weight": weights["transformer.wte.weight"] + 1}


def tensorflow(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "model.ckpt.index").touch()


Break = Callable[[Path], object]
WRONG: dict[str, tuple[Break, str]] = {
    "a truncated file": (
        lambda f: cut(f / "model.safetensors", 9_000), "model.safetensors cannot be read",
    ),
    "an empty file": (lambda f: cut(f / "model.safetensors", 0), "model.safetensors cannot be"),
    "a truncated .bin": (cut_bin, "pytorch_model.bin cannot be read"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no weights; place one"),
    "a missing shard": (one_shard_less, "model-00002-of-00003.safetensors does not exist, but"),
    "an index that leads out": (leaving, "names ../model-00002-of-00003.safetensors, which is no"),
    "an index of other files": (naming_config_json, "names config.json, which is no file name"),
    "an index that is no table": (
        lambda f: (shards_of(f), (f / INDEX_FILE).write_text('{"weight_map": ["a"]}')),
        "has no weight_map",
    ),
    "a text named .bin": (lambda f: bin_of(f, b"hello"), "cannot be read: it is no pickle"),
    "a broken pickle": (lambda f: bin_of(f, b"\x80\x02hello"), "pytorch_model.bin cannot be read"),
    "half a zip archive": (lambda f: bin_of(f, b"PK\x03\x04hello"), "model.bin cannot be read"),
    "a zip archive that expands": (zip_bomb, "expands to 9,000,000; torch.save compresses nothing"),
    "a tensor that is one number": (expanded_tensor, "wte.weight is not stored number by number"),
    "a list in a pickle": (
        lambda f: (weights_of(f), torch.save([1, 2], f / "pytorch_model.bin")), "is no table of te",
    ),
    "what git clone leaves without Git LFS": (
        lambda f: (f / "model.safetensors").write_text(LFS_POINTER), "is a Git LFS pointer, not t",
    ),
    "the same as a .bin": (lambda f: bin_of(f, LFS_POINTER.encode()), "git lfs pull"),
    "NaN": (lambda f: rewritten(f, with_number(math.nan)), "h.1.ln_1.bias has numbers that are"),
    "infinity": (lambda f: rewritten(f, with_number(math.inf)), "h.1.ln_1.bias has numbers that"),
    "ten million blocks": (
        lambda f: with_config(f, n_layer=10**7), "n_layer is 10000000, and weights of 3 blocks are",
    ),
    "ten million tokens": (
        lambda f: with_config(f, vocab_size=10**7), "(10000000, 40), vocab_size by n_embd",
    ),
    "ten million positions": (
        lambda f: with_config(f, n_positions=10**7), "(10000000, 40), n_positions by n_embd",
    ),
    "a quintillion tokens": (
        lambda f: with_config(f, vocab_size=10**18), "used: vocab_size 1000000000000000000 must be",
    ),
    "two sets of weights": (
        lambda f: rewritten(f, lambda w: w | {"h.0.ln_1.weight": torch.zeros(40)}),
        "has h.0.ln_1.weight twice",
    ),
    "code in a pickle": (code_in, "pytorch_model.bin is a pickle with more than tensors in it"),
    "a wrong shape": (
        lambda f: rewritten(f, longer_wte), "wte.weight is (999, 40), but by config.json it is (",
    ),
    "another width": (lambda f: with_config(f, n_embd=44), "is (300, 40), but by config.json"),
    "a missing tensor": (
        without("transformer.h.1.ln_2.bias"), "h.1.ln_2.bias is missing; place files that belong",
    ),
    "an unknown tensor": (
        lambda f: rewritten(f, lambda w: w | {"score.weight": torch.zeros(1)}),
        "score.weight is unknown",
    ),
    "fewer blocks": (lambda f: with_config(f, n_layer=2), "h.2.attn.c_attn.bias and 11 more is u"),
    "an output layer of its own": (lambda f: rewritten(f, other_head), "lm_head.weight is not wte"),
    "quantized weights": (
        lambda f: rewritten(f, lambda w: {n: t.to(torch.int8) for n, t in w.items()}),
        "is torch.int8; fp32, fp16, bf16 and fp64 are read",
    ),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json does not exist; place it"),
    "a broken config": (lambda f: cut(f / "config.json", 20), "config.json is not JSON"),
    "a list as config": (lambda f: (f / "config.json").write_text("[]"), "is not a JSON object"),
    "a run": (lambda f: with_config(f, format_version=1), "is a run directory already"),
    "TensorFlow's": (tensorflow, "TensorFlow checkpoints are not supported"),
    "another model": (lambda f: with_config(f, model_type="llama"), "model_type llama is another"),
    "a long name": (
        lambda f: with_config(f, model_type="[" * 5000), f"model_type {'[' * 100}... is another"
    ),
    "a long value": (
        lambda f: with_config(f, quantization_config=["x"] * 5000), "... is quantized weights"
    ),
    "ReLU": (lambda f: with_config(f, activation_function="relu"), "activation_function relu is"),
    "another inner width": (lambda f: with_config(f, n_inner=99), "n_inner 99 is another model's"),
    "scaling by layer": (
        lambda f: with_config(f, scale_attn_by_inverse_layer_idx=True),
        "scale_attn_by_inverse_layer_idx true is attention that is scaled by layer",
    ),
    "no scaling": (lambda f: with_config(f, scale_attn_weights=False), "scale_attn_weights false"),
    "cross attention": (
        lambda f: with_config(f, add_cross_attention=True), "add_cross_attention true is cross",
    ),
    "an untied config": (
        lambda f: with_config(f, tie_word_embeddings=False), "tie_word_embeddings false is an out",
    ),
    "another epsilon": (
        lambda f: with_config(f, layer_norm_epsilon=1e-6), "layer_norm_epsilon 1e-06 is another",
    ),
    "a size that is no number": (lambda f: with_config(f, n_head="four"), "n_head: Input should"),
    "heads that do not fit": (
        lambda f: with_config(f, n_head=7), "used: n_embd 40 must be a multiple of n_head 7\n",
    ),
    "no blocks": (lambda f: with_config(f, n_layer=0), "used: n_layer 0 must be at least 1"),
    "a dropout that is a text": (
        lambda f: with_config(f, resid_pdrop="0.5"), 'resid_pdrop "0.5" is no dropout rate',
    ),
    "a dropout below 0": (lambda f: with_config(f, embd_pdrop=-1), "embd_pdrop -1 is no dropout r"),
    "a dropout of 1": (lambda f: with_config(f, attn_pdrop=1), "attn_pdrop 1 is no dropout rate"),
    "a dropout that is null": (lambda f: with_config(f, attn_pdrop=None), "attn_pdrop null is no"),
    "a config that is nested too deep": (
        lambda f: (f / "config.json").write_text("[" * 100_000), "config.json is not JSON",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no vocabulary; name a fold"),
    "a larger tokenizer": (
        lambda f: with_config(f, vocab_size=100), "the tokenizer has 300 tokens, the model 100",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("broken", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_import_ends_with_one_sentence_and_writes_no_run(
    broken: Break, words: str, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken(saved)
    run = saved.parent / "run"
    assert main.main(["import", str(saved), "--out", str(run)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert words in error
    assert not run.exists()
    assert not (saved / "it-ran").exists()


def test_a_run_is_never_overwritten(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imported(saved)
    assert main.main(["import", str(saved), "--out", str(saved.parent / "run")]) == 2
    assert "already holds a run" in capsys.readouterr().err
