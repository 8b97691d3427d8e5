"""Export: transformers loads the folder and gives the same logits and the same token ids."""

import json
import logging
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import pre_tokenizers

import main
from cfg_gpt2 import GPT2Config
from generation import SamplingConfig, generate
from gpt2 import GPT2Model
from pretrained.hugging_face import write_folder
from pretrained.model_card import last_metrics
from pretrained.vocabulary import to_bpe
from tokenizer import BYTE_OF_CHARACTER, Tokenizer

transformers = pytest.importorskip("transformers")
ENGLISH = "The cat sat on the mat, and it slept. It's 12 o'clock!\n" * 20
RUSSIAN = "Мама мыла раму, а кот спал — «тихо». Ёж ел 3 яблока.\n" * 20
TOKENIZERS = {
    "bpe": lambda: Tokenizer.train([ENGLISH], 300),
    "Russian bpe": lambda: Tokenizer.train([RUSSIAN], 330),
    "characters": lambda: Tokenizer.characters([ENGLISH, RUSSIAN, "🦙"]),
}
ROUNDING = 1e-5  # fp32 sums of 40 to 160 products of about 1 in another order, some 20 in a row


def with_weights(config: GPT2Config) -> GPT2Model:
    """A model in which no weight is 0 or 1, or it would prove nothing."""
    torch.manual_seed(7)
    model = GPT2Model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def sizes(tokenizer: Tokenizer, *, bias: bool = True, extra: int = 0) -> GPT2Config:
    return GPT2Config(
        vocab_size=tokenizer.vocab_size + extra, context_length=48, n_layer=3, n_head=4,
        n_embd=40, bias=bias,
    )  # fmt: skip


@pytest.fixture(params=TOKENIZERS.values(), ids=list(TOKENIZERS))
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A run directory."""
    tokenizer = request.param()
    with_weights(sizes(tokenizer)).save(tmp_path / "run")
    tokenizer.save(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def english(tmp_path: Path) -> Path:
    tokenizer = TOKENIZERS["bpe"]()
    with_weights(sizes(tokenizer)).save(tmp_path / "run")
    tokenizer.save(tmp_path / "run")
    return tmp_path / "run"


def export(run: Path, out: str, *flags: str) -> Path:
    folder = run.parent / out
    assert main.main(["export", str(run), "--out", str(folder), *flags]) == 0
    return folder


def test_transformers_loads_the_folder_without_warnings_and_gives_the_same_logits_and_ids(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = export(run, "out")
    logging.getLogger("transformers").propagate = True
    with caplog.at_level(logging.WARNING):
        theirs, loading_info = transformers.AutoModelForCausalLM.from_pretrained(
            folder, output_loading_info=True
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert [record.getMessage() for record in caplog.records] == []
    assert not any(loading_info.values())
    ours, own = GPT2Model.load(run), Tokenizer.load(run)
    tokens = torch.randint(ours.config.vocab_size, (2, 48))
    with torch.inference_mode():
        assert (ours(tokens) - theirs.eval()(tokens).logits).abs().max() < ROUNDING
    text = RUSSIAN if own.vocab_size == 330 else ENGLISH
    assert tokenizer(text).input_ids == own.encode(text)
    assert tokenizer.decode(own.encode(text)) == text
    assert tokenizer.eos_token_id == own.end_of_text == theirs.generation_config.eos_token_id
    assert tokenizer.model_max_length == 48


def test_greedy_text_of_an_exported_model_equals_that_of_the_run(english: Path) -> None:
    theirs = transformers.pipeline("text-generation", str(export(english, "out")))
    rows_of_theirs = theirs("The cat", max_new_tokens=30, do_sample=False, return_full_text=False)
    own = Tokenizer.load(english)
    greedy = SamplingConfig(max_new_tokens=30, temperature=0.0)
    rows = generate(GPT2Model.load(english), [own.encode("The cat")], greedy, own.end_of_text)
    assert rows_of_theirs[0]["generated_text"] == own.decode(rows[0])


def test_export_then_import_gives_the_same_files_bit_for_bit(run: Path) -> None:
    folder, again = export(run, "out"), run.parent / "again"
    assert main.main(["import", str(folder), "--out", str(again)]) == 0
    for file in ("model.safetensors", "tokenizer.json"):
        assert (again / file).read_bytes() == (run / file).read_bytes()
    twice = run.parent / "out-2"
    assert main.main(["export", str(again), "--out", str(twice)]) == 0
    for file in folder.iterdir():
        if file.name != "README.md":
            assert (twice / file.name).read_bytes() == file.read_bytes(), file.name


def test_vocab_json_and_merges_txt_give_the_same_ids(english: Path) -> None:
    folder, own = export(english, "out"), Tokenizer.load(english)
    (folder / "tokenizer.json").unlink()
    assert Tokenizer.from_gpt2(folder).encode(ENGLISH) == own.encode(ENGLISH)
    files = {"vocab": str(folder / "vocab.json"), "merges": str(folder / "merges.txt")}
    assert transformers.GPT2Tokenizer(**files)(ENGLISH).input_ids == own.encode(ENGLISH)


def test_a_character_tokenizer_is_exported_without_vocab_json_and_merges_txt(
    tmp_path: Path,
) -> None:
    for text in (ENGLISH, RUSSIAN):
        tokenizer = Tokenizer.characters([text])
        write_folder(with_weights(sizes(tokenizer)), tokenizer, tmp_path)
        assert not (tmp_path / "vocab.json").exists() and not (tmp_path / "merges.txt").exists()


def test_a_model_without_biases_is_exported_with_biases_of_zero(tmp_path: Path) -> None:
    tokenizer = TOKENIZERS["bpe"]()
    ours = with_weights(sizes(tokenizer, bias=False))
    write_folder(ours, tokenizer, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    tokens = torch.randint(tokenizer.vocab_size, (2, 48))
    with torch.inference_mode():
        assert (ours(tokens) - theirs(tokens).logits).abs().max() < ROUNDING


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", "float16"), ("bf16", "bfloat16")])
def test_half_precision_export_holds_the_rounded_weights(
    precision: str, dtype: str, english: Path
) -> None:
    whole, half = export(english, "out"), export(english, "half", "--precision", precision)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(half)
    assert theirs.dtype == getattr(torch, dtype)
    assert theirs.config.dtype == theirs.dtype
    exact = transformers.AutoModelForCausalLM.from_pretrained(whole).state_dict()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, exact[name].to(theirs.dtype)), name


def test_weights_that_fp16_cannot_hold_are_refused(
    english: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = GPT2Model.load(english)
    with torch.no_grad():
        model.get_parameter("blocks.1.feedforward.widen_proj.weight")[0, 0] = 70_000.0
    model.save(english)
    for form in ("hf", "gguf"):
        pytest.importorskip("gguf") if form == "gguf" else None
        flags = ["--out", str(english.parent / form), "--format", form, "--precision", "fp16"]
        assert main.main(["export", str(english), *flags]) == 2
        error = capsys.readouterr().err
        assert "blocks.1.feedforward.widen_proj.weight has weights above 65504" in error
        assert not list((english.parent / form).glob("*model*"))


def test_weights_that_are_no_numbers_are_refused_and_nothing_is_written(
    english: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = GPT2Model.load(english)
    with torch.no_grad():
        model.get_parameter("final_norm.weight")[0] = float("nan")
    model.save(english)
    for precision in ("fp32", "fp16", "bf16"):
        flags = ["--out", str(english.parent / "out"), "--precision", precision]
        assert main.main(["export", str(english), *flags]) == 2
        assert "final_norm.weight has numbers that are NaN or infinite" in capsys.readouterr().err
    assert not (english.parent / "out").exists()


def test_export_says_how_to_publish_the_folder(
    english: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = export(english, "my model")
    said = capsys.readouterr().out
    assert f"hf upload NAME/'my model' '{folder.as_posix()}'" in said.replace("\n", "")


def test_gpt2s_own_two_files_are_not_written_for_another_word_pattern(tmp_path: Path) -> None:
    library = Library.from_str(TOKENIZERS["bpe"]().to_json())
    parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    library.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer = Tokenizer(library)
    write_folder(with_weights(sizes(tokenizer)), tokenizer, tmp_path)
    assert not (tmp_path / "merges.txt").exists()
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("It's 123 cats").input_ids == tokenizer.encode("It's 123 cats")


def test_the_model_card_has_sizes_metrics_and_how_to_load(english: Path) -> None:
    lines = [
        '{"step": 0, "val_loss": 5.5, "val_bits_per_byte": 3.5, "floor_bits_per_byte": 0.25}',
        '{"step": 10, "train_loss": 2.0, "tokens": 12345}',
        '{"step": 20, "val_loss": 1.25, "val_bits_per_byte": 0.5, "tokens": 24690}',
        '{"step": 21, "val_lo',
    ]
    (english / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert last_metrics(english / "metrics.jsonl") == {
        "val_loss": 1.25, "val_bits_per_byte": 0.5, "floor_bits_per_byte": 0.25,
        "tokens": 24690, "step": 20,
    }  # fmt: skip
    card = (export(english, "stories") / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "# stories" in card and f"{GPT2Model.load(english).n_parameters():,} parameters" in card
    assert "| validation, bits per byte | 0.5 |" in card and "| 24,690 |" in card
    assert "Training text: `tiny-world`." in card


def test_the_model_card_of_a_run_that_learned_pairs_measures_pairs(english: Path) -> None:
    line = {"step": 20, "val_loss": 0.5, "tokens": 24690}
    (english / "metrics.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    (english / "chat.json").write_text(json.dumps({"format": "turns", "method": "dpo"}))
    card = (export(english, "stories") / "README.md").read_text(encoding="utf-8")
    assert "| validation loss, per pair | 0.5 |" in card


def test_a_model_card_without_metrics_names_no_training_text(english: Path) -> None:
    card = (export(english, "stories") / "README.md").read_text(encoding="utf-8")
    assert "Training text: see the model that it was imported from." in card


# Characters as byte-level BPE ---------------------------------------------------------------

ALPHABET = "ab Ж—ё🦙\n日"
CHARACTERS = Tokenizer.characters([ALPHABET])


@given(st.text(alphabet=ALPHABET, max_size=30))
@settings(deadline=None)
def test_a_character_tokenizer_as_bpe_gives_the_same_ids(text: str) -> None:
    bpe = to_bpe(CHARACTERS)
    ids = {token: id for id, token in enumerate(bpe.tokens) if token is not None}
    merged = apply_merges(text, bpe.merges)
    assert [ids[token] for token in merged] == CHARACTERS.encode(text)


def apply_merges(text: str, merges: list[tuple[str, str]]) -> list[str]:
    """Byte-pair encoding by its definition: the earliest merge first, as long as there is one."""
    spelled = {byte: character for character, byte in BYTE_OF_CHARACTER.items()}
    parts = [spelled[byte] for byte in text.encode()]
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    while True:
        candidates = [(ranks[p], i) for i, p in enumerate(pairwise(parts)) if p in ranks]
        if not candidates:
            return parts
        _, i = min(candidates)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


# What is refused ----------------------------------------------------------------------------

WRONG = {
    "no run": ("export nothing --out x", "nothing does not exist; name a run directory"),
    "no out": ("export run", "--out"),
    "a taken folder": ("export run --out taken", "--out taken already holds config.json; name an"),
    "a taken file": ("export run --out taken.gguf --format gguf", "already holds taken.gguf"),
    "q8_0 for transformers": ("export run --out x --precision q8_0", "is for --format gguf"),
    "an unknown format": ("export run --out x --format onnx", "onnx"),
    "q8_0 of an odd width": (
        "export run --out x --format gguf --precision q8_0",
        "a multiple of 32, not 40; take fp16",
    ),
    "weights that are cut": ("export cut --out x", "cut/model.safetensors cannot be read"),
    "no tokenizer": ("export mute --out x", "mute/tokenizer.json does not exist"),
}


@pytest.mark.parametrize(("line", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_export_ends_with_one_sentence_and_writes_nothing(
    line: str,
    words: str,
    english: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(english.parent)
    Path("taken").mkdir()
    Path("taken/config.json").touch()
    Path("taken.gguf").touch()
    for name in ("cut", "mute"):
        Path(name).mkdir()
        for file in ("config.json", "model.safetensors"):
            Path(name, file).write_bytes((english / file).read_bytes())
    Path("cut/model.safetensors").write_bytes(b"cut")
    (Path("cut") / "tokenizer.json").write_bytes((english / "tokenizer.json").read_bytes())
    assert main.main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert words in error
    assert not Path("x").exists()


def test_config_json_equals_that_of_transformers(english: Path) -> None:
    written = json.loads((export(english, "out") / "config.json").read_text())
    theirs = transformers.GPT2Config(
        vocab_size=written["vocab_size"], n_positions=48, n_embd=40, n_layer=3, n_head=4,
        bos_token_id=0, eos_token_id=0,
    ).to_dict()  # fmt: skip
    only_ours = {"architectures", "dtype", "torch_dtype", "n_ctx"}
    for key in written.keys() - only_ours:
        assert written[key] == theirs[key], key
