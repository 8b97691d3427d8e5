"""verify passes on an intact program; a fast path fault on purpose fails in the rows of its name.

Each fault is put into the program itself, from outside, and the whole command runs.
"""

import ctypes
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import main
from cfg_gpt2 import GPT2Config
from decoding.ragged_cache import RaggedKVCache
from diagnostics.verify.checks import attention, cache, generation
from diagnostics.verify.command import CHECKS
from diagnostics.verify.model_under_test import ModelUnderTest, small_model, with_text
from generation import SamplingConfig, stream
from gpt2 import GPT2Model
from layer_norm import LayerNorm
from multiheadattention import KVCache, MultiHeadAttention
from native import compiled
from preparation.word_cache import WordCache
from pretrained import hugging_face
from pretrained.names import WeightName, name_table
from quantization import int8
from quantization.int8 import Int8Linear
from tokenizer import Tokenizer
from training.kernels.gelu import GELUKernel

QUICK = [check.name for check in CHECKS if check.name != "compiled"]
Rows = dict[str, dict[str, object]]
Verify = Callable[..., tuple[int, Rows]]


@pytest.fixture(scope="module")
def small() -> ModelUnderTest:
    return small_model(torch.device("cpu"))


@pytest.fixture
def verify(
    small: ModelUnderTest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Verify:
    """`verify` with some checks, or the quick ones -> the exit status and the rows by name."""
    # a copy has no cached logits: a fault that reaches the formula itself would show
    monkeypatch.setattr("diagnostics.verify.command.small_model", lambda device: replace(small))

    def run(*only: str) -> tuple[int, Rows]:
        flags = [flag for name in only or QUICK for flag in ("--only", name)]
        capsys.readouterr()
        status = main.main(["verify", "--device", "cpu", "--json", *flags])
        rows = map(json.loads, capsys.readouterr().out.splitlines())
        return status, {row["name"]: row for row in rows}

    return run


def failed(rows: Rows) -> set[str]:
    return {name for name, row in rows.items() if row["status"] == "FAIL"}


# Intact -------------------------------------------------------------------------------------


def test_an_intact_program_passes(verify: Verify) -> None:
    status, rows = verify()
    assert (status, failed(rows)) == (0, set())
    assert list(rows) == QUICK
    absent = {name for name, row in rows.items() if row["status"] == "skipped"}
    # the last ones need a package or a C++ compiler that a machine may lack
    assert absent <= {"device", "exported", "spelled"} | NATIVE
    for row in rows.values():
        assert row["why"]


def test_a_text_past_a_long_context_passes(small: ModelUnderTest) -> None:
    """Rows that are far apart in length are prefilled one by one, without padding."""
    torch.manual_seed(1)
    sizes = replace(small.model.config, context_length=600, n_layer=1)
    longer = with_text(GPT2Model(sizes), small.tokenizer, ["A b c."], small.device, "long")
    comparison = cache.past_the_context(longer)
    assert comparison.difference <= comparison.bound


@pytest.mark.slow
def test_compiled_blocks_pass(verify: Verify) -> None:
    status, rows = verify("compiled")
    assert status == 0
    assert rows["compiled"]["status"] in ("pass", "skipped")


def test_a_run_is_verified_with_its_own_weights_and_tokenizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "verse.txt"
    text.write_text("Мама мыла раму, the cat sat on the mat. " * 20, encoding="utf-8")
    small = ["--model.n-layer", "1", "--model.n-head", "2", "--model.n-embd", "32",
             "--model.context-length", "16", "--train.max-steps", "2", "--train.batch-size", "2",
             "--train.device", "cpu", "--train.precision", "fp32", "--data.tokenizer", "char",
             "--data.path", str(text), "--data.cache-dir", str(tmp_path / "cache")]  # fmt: skip
    assert main.main(["train", "--out", str(tmp_path / "run"), *small]) == 0
    capsys.readouterr()
    flags = [flag for name in QUICK for flag in ("--only", name)]
    assert main.main(["verify", str(tmp_path / "run"), "--device", "cpu", *flags]) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path / 'run'}: " in said.replace("\n", "")
    assert "0 do not" in said


WRONG = {
    "no run": ("verify absent", "absent does not exist"),
    "a folder without a tokenizer": ("verify mute", "mute/tokenizer.json does not exist"),
    "weights that are cut": ("verify cut", "cut/model.safetensors cannot be read"),
    "a mixed run": ("verify mixed", "mixed has 271 tokens in its tokenizer and 40 in its model"),
    "an unknown check": ("verify --only everything", "--only everything is no check; choose from"),
    "a device that is not here": ("verify --device mps", "--device mps is not present here"),
    "an unknown flag": ("verify --precision bf16", "--precision"),
}


@pytest.mark.parametrize(("line", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_input_ends_with_one_sentence_and_status_2(
    line: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = GPT2Config(vocab_size=40, context_length=8, n_layer=1, n_head=1, n_embd=8)
    for name in ("mute", "cut", "mixed"):
        GPT2Model(sizes).save(name)
    for name in ("cut", "mixed"):
        Tokenizer.train(["The cat sat on the mat. " * 20], 300).save(name)
    Path("cut/model.safetensors").write_bytes(b"cut")
    assert main.main(line.split()) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert words in said.err
    assert not said.out


# Faults on purpose ---------------------------------------------------------------------------


def a_mask_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def see_one_ahead(
        self: MultiHeadAttention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        if mask is None:
            n_new, n_keys = q.size(-2), k.size(-2)
            seen = torch.ones(n_new, n_keys, dtype=torch.bool).tril(n_keys - n_new + 1)
            mask = torch.zeros(n_new, n_keys).masked_fill(~seen, float("-inf"))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    monkeypatch.setattr(MultiHeadAttention, "attend_fused", see_one_ahead)


def a_cache_that_writes_one_slot_late(monkeypatch: pytest.MonkeyPatch) -> None:
    append = KVCache.append

    def late(self: KVCache, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        start = self.length
        if not start:
            return append(self, k, v)
        stale = self.keys[:, :, start].clone()
        keys, values = append(self, k, v)
        keys[:, :, start] = stale
        keys[:, :, start + 1 :] = k[:, :, :-1]
        return keys, values

    monkeypatch.setattr(KVCache, "append", late)


def a_cache_that_keeps_old_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for cache_type in (KVCache, RaggedKVCache):
        keep_old_keys(monkeypatch, cache_type)


def keep_old_keys(monkeypatch: pytest.MonkeyPatch, cache_type: type[KVCache]) -> None:
    append = cache_type.append

    def keep_old(self: KVCache, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Writes only where nothing has been written."""
        old = self.keys.clone()
        keys, values = append(self, k, v)
        written = old[:, :, : keys.size(-2)]
        keys.copy_(torch.where(written == 0, keys, written))
        return keys, values

    monkeypatch.setattr(cache_type, "append", keep_old)


def padding_that_is_attended_to(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = RaggedKVCache.mask

    def see_everything(self: RaggedKVCache, n_new: int) -> Tensor | None:
        hidden = mask(self, n_new)
        return None if hidden is None else torch.zeros_like(hidden)

    monkeypatch.setattr(RaggedKVCache, "mask", see_everything)


def a_stream_that_drops_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop_one(model: GPT2Model, prompt: list[int], config: SamplingConfig) -> Iterator[int]:
        yield from (token for i, token in enumerate(stream(model, prompt, config)) if i != 5)

    monkeypatch.setattr(generation, "stream", drop_one)


def a_stream_that_comes_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def hold_back(model: GPT2Model, prompt: list[int], config: SamplingConfig) -> Iterator[int]:
        yield from list(stream(model, prompt, config))

    monkeypatch.setattr(generation, "stream", hold_back)


def a_matrix_exported_without_transposing(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget_one(n_layer: int) -> list[WeightName]:
        # it is square, so that its shape gives nothing away
        untransposed = "blocks.1.attention.out_proj.weight"
        return [
            replace(name, transposed=name.transposed and name.own != untransposed)
            for name in name_table(n_layer)
        ]

    monkeypatch.setattr(hugging_face, "name_table", forget_one)


def matmuls_coarser_than_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = LayerNorm.forward

    def coarse(self: LayerNorm, x: Tensor) -> Tensor:
        y = forward(self, x)
        return y.to(torch.float8_e5m2).to(y.dtype) if torch.is_autocast_enabled("cpu") else y

    monkeypatch.setattr(LayerNorm, "forward", coarse)


def compiled_blocks_that_compute_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = GELUKernel.forward

    def other_when_compiled(self: GELUKernel, x: Tensor) -> Tensor:
        y = forward(self, x)
        return 1.001 * y if torch.compiler.is_compiling() else y

    monkeypatch.setattr(GELUKernel, "forward", other_when_compiled)


def a_path_compared_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "explicit_attention", nullcontext)


def int8_weights_rounded_down(monkeypatch: pytest.MonkeyPatch) -> None:
    nearest = int8.quantize_rows

    def down(weight: Tensor) -> tuple[Tensor, Tensor]:
        _, scale = nearest(weight)
        return (weight / scale.unsqueeze(1)).floor().to(torch.int8), scale

    monkeypatch.setattr(int8, "quantize_rows", down)


def int8_rows_with_the_next_rows_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Int8Linear.forward

    def shifted(self: Int8Linear, x: Tensor) -> Tensor:
        bias = 0 if self.bias is None else self.bias
        return (forward(self, x) - bias) / self.scale * self.scale.roll(1) + bias

    monkeypatch.setattr(Int8Linear, "forward", shifted)


def an_int8_kernel_that_misses_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    multiply = torch._weight_int8pack_mm

    def short(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        return multiply(x.index_fill(1, torch.tensor([3]), 0), weight, scale)

    monkeypatch.setattr(torch, "_weight_int8pack_mm", short)


def a_native_step_with_a_larger_eps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "EPS", 0.1)


def a_native_step_one_position_early(monkeypatch: pytest.MonkeyPatch) -> None:
    change_native_step(monkeypatch, one_position_early)


def one_position_early(work: compiled.TokenPointers) -> None:
    positions = (ctypes.c_int64 * work.n_tokens).from_address(work.positions)
    positions[:] = [max(0, position - 1) for position in positions]


def a_native_step_that_takes_every_row_for_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    change_native_step(monkeypatch, all_in_the_first_row)


def all_in_the_first_row(work: compiled.TokenPointers) -> None:
    rows = (ctypes.c_int64 * work.n_tokens).from_address(work.rows)
    rows[:] = [0] * len(rows)


def change_native_step(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[compiled.TokenPointers], None]
) -> None:
    """Lets `change` change the arguments of every native step, before the step runs."""
    library = compiled.library

    class Changed:
        def __getattr__(self, name: str) -> Callable[..., None]:
            step = getattr(library(), name)

            def changed(model: object, work: object, n_threads: int) -> None:
                change(work._obj)  # type: ignore[attr-defined]
                step(model, work, n_threads)

            return changed

    monkeypatch.setattr(compiled, "library", Changed)


def a_native_step_that_is_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled.CompiledGPT2, "takes", lambda self, tokens, cache: False)


def a_word_cache_that_confuses_two_words(monkeypatch: pytest.MonkeyPatch) -> None:
    add = WordCache.add

    def confuse(self: WordCache, words: set[str]) -> None:
        add(self, words)
        first, *_, last = sorted(words)
        self.tokens[first] = self.tokens[last]

    monkeypatch.setattr(WordCache, "add", confuse)


def a_word_cache_that_is_bypassed(monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(self: WordCache, text: str) -> bytes:
        return self.as_bytes(self.tokenizer.encode(text))

    monkeypatch.setattr(WordCache, "encode", encode)


@dataclass(frozen=True)
class Fault:
    """A fault that `inject` puts into the program, and the rows in which it shows."""

    inject: Callable[[pytest.MonkeyPatch], None]
    fails: set[str]  # the rows that bear its name
    passes: set[str]  # some of the other rows
    also: frozenset[str] = frozenset()  # rows of another name that compute through it too


FUSED = {"fused", "fused-cache", "fused-backward"}
NATIVE = {"native", "native-bf16", "native-int8"}
CACHED = {"cached", "reused", "shared", "speculative", "beams"}
FAULTS = [
    Fault(a_mask_off_by_one, FUSED | {"bf16-fused"}, {"cached", "beams"}),
    Fault(a_path_compared_with_itself, FUSED, {"cached"}),
    Fault(
        a_cache_that_writes_one_slot_late,
        CACHED,
        {"fused", "unequal", "streamed"},
        also=frozenset({"int8-kernel"}),  # reads in pieces, to have few rows
    ),
    Fault(
        a_cache_that_keeps_old_keys,
        {"reused", "long", "speculative"},
        {"fused", "cached"},
        also=frozenset({"unequal", "shared"}),  # the keys of padding are kept
    ),
    Fault(padding_that_is_attended_to, {"unequal", "shared", "long"}, {"fused", "cached", "beams"}),
    Fault(a_stream_that_drops_a_token, {"streamed"}, {"streamed-text", "cached"}),
    Fault(a_stream_that_comes_at_the_end, {"streamed"}, {"streamed-text"}),
    Fault(matmuls_coarser_than_bf16, {"bf16", "bf16-backward", "bf16-fused"}, {"fused"}),
    Fault(int8_weights_rounded_down, {"int8"}, {"int8-kernel"}),
    Fault(int8_rows_with_the_next_rows_scale, {"int8", "int8-kernel"}, {"fused"}),
    Fault(an_int8_kernel_that_misses_a_column, {"int8-kernel"}, {"int8"}),
    Fault(a_native_step_with_a_larger_eps, NATIVE, {"cached", "int8-kernel"}),
    Fault(a_native_step_one_position_early, NATIVE, {"cached", "int8-kernel"}),
    Fault(a_native_step_that_takes_every_row_for_the_first, NATIVE, {"unequal", "int8-kernel"}),
    Fault(a_word_cache_that_confuses_two_words, {"word-cache"}, {"spelled"}),
    Fault(a_matrix_exported_without_transposing, {"exported"}, {"spelled"}),
]
COMPILED = Fault(compiled_blocks_that_compute_something_else, {"compiled"}, set())


def name_of(fault: Fault) -> str:
    return fault.inject.__name__


@pytest.mark.parametrize("fault", FAULTS, ids=name_of)
def test_a_fault_fails_in_the_rows_of_its_name(
    fault: Fault, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault.inject(monkeypatch)
    status, rows = verify(*fault.fails, *fault.passes)
    skip_where_unavailable(fault, rows)
    assert (status, failed(rows)) == (1, fault.fails)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [*FAULTS, COMPILED], ids=name_of)
def test_a_fault_fails_in_no_other_row(
    fault: Fault, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault.inject(monkeypatch)
    _, rows = verify(*QUICK, *fault.fails)
    skip_where_unavailable(fault, rows)
    assert failed(rows) == fault.fails | fault.also


def skip_where_unavailable(fault: Fault, rows: Rows) -> None:
    """Skips the test where this machine has no compiler or no transformers."""
    absent = [rows[name] for name in fault.fails if rows[name]["status"] == "skipped"]
    if absent:
        pytest.skip(str(absent[0]["why"]))


@pytest.mark.parametrize(
    ("inject", "names"),
    [
        (a_path_compared_with_itself, FUSED),
        (a_stream_that_comes_at_the_end, {"streamed"}),
        (a_native_step_that_is_never_taken, NATIVE),
        (a_word_cache_that_is_bypassed, {"word-cache"}),
    ],
)
def test_a_path_that_was_not_exercised_fails(
    inject: Callable[[pytest.MonkeyPatch], None],
    names: set[str],
    verify: Verify,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inject(monkeypatch)
    _, rows = verify(*names)
    if any(row["status"] == "skipped" for row in rows.values()):
        pytest.skip("this machine has no C++ compiler")
    assert all("not exercised" in str(row["why"]) for row in rows.values())
