"""verify passes on an intact program; a fast path fault on purpose fails in the rows of its name.

Each fault is put into the program itself, from outside, and the whole command runs.
"""

import ctypes
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

import main
from cfg_gpt2 import GPT2Config
from commands.engines import ENGINES
from data.windows import Window
from decoding.ragged_cache import RaggedKVCache
from decoding.stop_strings import StopStringBuffer
from diagnostics.verify.checks import attention, cache, generation, kernels, training
from diagnostics.verify.command import CHECK_OF, CHECKS
from diagnostics.verify.model_under_test import ModelUnderTest, small_model, with_text
from diagnostics.verify.rounding import to_fp64
from feedforward import FeedForward
from generation import SamplingConfig, stream
from gpt2 import GPT2Model
from layer_norm import LayerNorm
from load_data import collate
from loss import IGNORE_INDEX
from multiheadattention import KVCache, MultiHeadAttention
from native import compiled
from preparation.word_cache import WordCache
from pretrained import hugging_face
from pretrained.names import WeightName, name_table
from quantization import int8
from quantization.int8 import Int8Linear
from run_directory.generation_config import GenerationTokens
from tokenizer import Tokenizer
from training import adamw, muon
from training.checkpoint import restore
from training.kernels import KERNELS as ATTACHABLE
from training.kernels import cross_entropy
from training.kernels.attention import ShortAttention
from training.kernels.cross_entropy import ChunkSizes
from training.kernels.gelu import GELUFunction
from training.kernels.layer_norm import LayerNormFunction
from training.kernels.linear import ChunkedLinearFunction
from training.optimizer import Optimizers

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

    def run(*only: str, run: Path | None = None) -> tuple[int, Rows]:
        flags = [flag for name in only or QUICK for flag in ("--only", name)]
        named = [] if run is None else [str(run)]
        capsys.readouterr()
        status = main.main(["verify", *named, "--device", "cpu", "--json", *flags])
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


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_an_intact_program_passes_on_a_gpu() -> None:
    assert main.main(["verify", "--device", "cuda"]) == 0


def test_figures_are_compared_on_the_cpu_where_every_device_has_float64() -> None:
    calls: list[str] = []

    class OnDevice:
        def __getattr__(self, name: str) -> Callable[[], "OnDevice"]:
            calls.append(name)
            return lambda: self

    to_fp64(cast("Tensor", OnDevice()))
    assert calls.index("cpu") < calls.index("double")


def test_a_text_past_a_long_context_passes(small: ModelUnderTest) -> None:
    """Rows that are far apart in length are prefilled one by one, without padding."""
    torch.manual_seed(1)
    sizes = replace(small.model.config, context_length=600, n_layer=1)
    longer = with_text(GPT2Model(sizes), small.tokenizer, ["A b c."], small.device, "long")
    comparison = cache.past_the_context(longer)
    assert comparison.difference <= comparison.bound


UNUSUAL = [  # n_embd, n_head, n_layer, context_length
    (8, 8, 1, 1), (24, 2, 2, 32), (40, 5, 1, 17), (7, 7, 3, 31), (48, 12, 1, 40), (30, 5, 2, 64),
]  # fmt: skip


@pytest.mark.parametrize("sizes", UNUSUAL, ids=str)
def test_a_healthy_model_of_unusual_sizes_passes(
    verify: Verify, small: ModelUnderTest, tmp_path: Path, sizes: tuple[int, int, int, int]
) -> None:
    n_embd, n_head, n_layer, context_length = sizes
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=small.model.config.vocab_size, context_length=context_length,
        n_layer=n_layer, n_head=n_head, n_embd=n_embd, dropout=0.0,
    )  # fmt: skip
    model = GPT2Model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 5  # so that attention is not even
    model.save(tmp_path)
    small.tokenizer.save(tmp_path)
    status, rows = verify(run=tmp_path)
    assert (status, failed(rows)) == (0, set())


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
    small = [
        "--model.n-layer",
        "1",
        "--model.n-head",
        "2",
        "--model.n-embd",
        "32",
        "--model.context-length",
        "16",
        "--train.max-steps",
        "2",
        "--train.batch-size",
        "2",
        "--train.device",
        "cpu",
        "--train.precision",
        "fp32",
        "--data.tokenizer",
        "char",
        "--data.path",
        str(text),
        "--data.cache-dir",
        str(tmp_path / "cache"),
    ]
    assert main.main(["train", "--out", str(tmp_path / "run"), *small]) == 0
    capsys.readouterr()
    flags = [flag for name in QUICK for flag in ("--only", name)]
    assert main.main(["verify", str(tmp_path / "run"), "--device", "cpu", *flags]) == 0
    output = capsys.readouterr().out
    assert f"{tmp_path / 'run'}: " in output.replace("\n", "")
    assert "0 do not" in output


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
    output = capsys.readouterr()
    assert output.err.startswith("error: ") and output.err.count("\n") == 1
    assert words in output.err
    assert not output.out


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
    forward = FeedForward.forward

    def other_when_compiled(self: FeedForward, x: Tensor) -> Tensor:
        y = forward(self, x)
        return 1.001 * y if torch.compiler.is_compiling() else y

    monkeypatch.setattr(FeedForward, "forward", other_when_compiled)


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


def a_stop_buffer_that_swaps_the_case(monkeypatch: pytest.MonkeyPatch) -> None:
    step = StopStringBuffer.step

    def swap(self: StopStringBuffer, token: int) -> str:
        return step(self, token).swapcase()

    monkeypatch.setattr(StopStringBuffer, "step", swap)


def padding_that_counts_as_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    def count_padding(windows: list[Window], length: int, end: int) -> tuple[Tensor, Tensor]:
        tokens, targets = collate(windows, length, end)
        return tokens, targets.where(targets != IGNORE_INDEX, 0)

    monkeypatch.setattr(training, "collate", count_padding)


def padding_that_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def pad_left(windows: list[Window], length: int, end: int) -> tuple[Tensor, Tensor]:
        tokens, targets = collate(windows, length, end)
        n_padding = (targets == IGNORE_INDEX).sum(dim=1).tolist()
        rolled = [
            torch.stack([row.roll(n) for row, n in zip(part, n_padding, strict=True)])
            for part in (tokens, targets)
        ]
        return rolled[0], rolled[1]

    monkeypatch.setattr(training, "collate", pad_left)


def weight_decay_of_biases(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel: Callable[..., None] = adamw.adamw

    def decay_all(*tensors: list[Tensor], **settings: object) -> None:
        kernel(*tensors, **settings | {"weight_decay": 0.1})

    monkeypatch.setattr(adamw, "adamw", decay_all)


def a_stack_whose_matrices_change_places(monkeypatch: pytest.MonkeyPatch) -> None:
    iterate = muon.newton_schulz
    monkeypatch.setattr(muon, "newton_schulz", lambda stack: iterate(stack).roll(1, 0))


def a_checkpoint_without_momenta(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_momenta(
        tensors: dict[str, Tensor], model: GPT2Model, optimizers: Optimizers
    ) -> None:
        kept = {name: x for name, x in tensors.items() if not name.endswith("momentum_buffer")}
        restore(kept, model, optimizers)

    monkeypatch.setattr(training, "restore", without_momenta)


def an_exported_tokenizer_with_half_its_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    write = hugging_face.write_tokenizer

    def write_half(
        tokenizer: Tokenizer,
        folder: Path,
        context_length: int,
        tokens: GenerationTokens,
        chat_template: str | None,
    ) -> None:
        write(tokenizer, folder, context_length, tokens, chat_template)
        file = folder / "tokenizer.json"
        settings = json.loads(file.read_text(encoding="utf-8"))
        merges = settings["model"]["merges"]
        settings["model"]["merges"] = merges[: len(merges) // 2]
        file.write_text(json.dumps(settings), encoding="utf-8")

    monkeypatch.setattr(hugging_face, "write_tokenizer", write_half)


# Kernels ------------------------------------------------------------------------------------


def a_gelu_gradient_of_the_wrong_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    backward = GELUFunction.backward
    monkeypatch.setattr(GELUFunction, "backward", lambda ctx, g: -backward(ctx, g))


def a_layer_norm_without_a_gradient_of_its_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    backward = LayerNormFunction.backward

    def without_bias(ctx: FunctionCtx, g: Tensor) -> tuple[Tensor | None, ...]:
        grad_input, grad_weight, grad_bias = backward(ctx, g)
        return grad_input, grad_weight, None if grad_bias is None else 0 * grad_bias

    monkeypatch.setattr(LayerNormFunction, "backward", without_bias)


def a_chunked_matmul_without_its_last_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    backward = ChunkedLinearFunction.backward

    def without_last(ctx: FunctionCtx, g: Tensor) -> tuple[Tensor | None, ...]:
        grad_input, _, *others = backward(ctx, g)
        g = g.clone()
        g[-1:] = 0  # of 190 rows, in chunks of 64
        return grad_input, backward(ctx, g)[1], *others

    monkeypatch.setattr(ChunkedLinearFunction, "backward", without_last)


def a_short_attention_without_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    def see_all(self: ShortAttention, q: Tensor, k: Tensor, v: Tensor, mask: None) -> Tensor:
        return self.attend_explicit(q, k, v, q.new_zeros(q.size(-2), k.size(-2)))

    monkeypatch.setattr(ShortAttention, "attend_fused", see_all)


def a_tile_mask_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tril = Tensor.tril
    monkeypatch.setattr(Tensor, "tril", lambda tile, diagonal=0: tril(tile, diagonal + 1))


def a_fused_loss_that_drops_later_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    add = cross_entropy.add_matmul

    def add_first(
        total: Tensor | None, grad_logits: Tensor, x: Tensor, dtype: torch.dtype, sizes: ChunkSizes
    ) -> Tensor:
        return add(total, grad_logits, x, dtype, sizes) if total is None else total

    monkeypatch.setattr(cross_entropy, "add_matmul", add_first)


def kernels_that_are_never_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "use_kernels", lambda model, table: None)


@dataclass(frozen=True)
class Fault:
    """A fault that `inject` puts into the program, and the rows in which it shows."""

    inject: Callable[[pytest.MonkeyPatch], None]
    fails: set[str]  # the rows that bear its name
    passes: set[str]  # some of the other rows
    also: frozenset[str] = frozenset()  # rows of another name that compute through it too


FUSED = {"fused", "fused-cache", "fused-backward"}
NATIVE = {"native", "native-bf16", "native-int8"}
KERNELS = {"gelu", "layer-norm", "chunked-linear", "short-attention", "tiled-attention"}
CACHED = {"cached", "reused", "shared", "speculative", "beams"}
FAULTS = [
    Fault(a_mask_off_by_one, FUSED | {"bf16-fused"}, {"cached", "beams"}),
    Fault(a_path_compared_with_itself, FUSED, {"cached"}),
    Fault(
        a_cache_that_writes_one_slot_late,
        CACHED,
        {"fused", "unequal", "streamed"},
        also=frozenset({"int8-kernel"}),  # prefills in chunks, to have few rows
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
    Fault(
        matmuls_coarser_than_bf16,
        {"bf16", "bf16-backward"},
        {"fused"},
        also=frozenset({"bf16-fused"}),  # both sides round more coarsely than its bound expects
    ),
    Fault(int8_weights_rounded_down, {"int8"}, {"int8-kernel"}),
    Fault(int8_rows_with_the_next_rows_scale, {"int8", "int8-kernel"}, {"fused"}),
    Fault(an_int8_kernel_that_misses_a_column, {"int8-kernel"}, {"int8"}),
    Fault(a_native_step_with_a_larger_eps, NATIVE, {"cached", "int8-kernel"}),
    Fault(a_native_step_one_position_early, NATIVE, {"cached", "int8-kernel"}),
    Fault(a_native_step_that_takes_every_row_for_the_first, NATIVE, {"unequal", "int8-kernel"}),
    Fault(a_word_cache_that_confuses_two_words, {"word-cache"}, {"spelled"}),
    Fault(a_stop_buffer_that_swaps_the_case, {"streamed-text"}, {"streamed"}),
    Fault(padding_that_counts_as_a_target, {"padded"}, {"head"}),
    Fault(padding_that_comes_first, {"padded"}, {"unequal"}),
    Fault(weight_decay_of_biases, {"adamw"}, {"muon", "resumed"}),
    Fault(a_stack_whose_matrices_change_places, {"muon"}, {"adamw", "resumed"}),
    Fault(a_checkpoint_without_momenta, {"resumed"}, {"muon"}),
    Fault(an_exported_tokenizer_with_half_its_merges, {"spelled"}, {"exported"}),
    # compiled blocks have the kernels of GELU and LayerNorm, as in training
    Fault(a_gelu_gradient_of_the_wrong_sign, {"gelu"}, {"layer-norm", "fused-backward"}),
    Fault(a_layer_norm_without_a_gradient_of_its_bias, {"layer-norm"}, {"gelu"}),
    Fault(a_chunked_matmul_without_its_last_chunk, {"chunked-linear"}, {"fused-backward"}),
    Fault(a_short_attention_without_a_mask, {"short-attention"}, {"tiled-attention"}),
    Fault(a_tile_mask_off_by_one, {"tiled-attention"}, {"short-attention", "fused"}),
    Fault(a_fused_loss_that_drops_later_chunks, {"head"}, {"padded"}),
    Fault(a_matrix_exported_without_transposing, {"exported"}, {"spelled"}),
]
COMPILED = Fault(compiled_blocks_that_compute_something_else, {"compiled"}, set())


def name_of(fault: Fault) -> str:
    return fault.inject.__name__


def test_every_kernel_and_engine_has_a_row() -> None:
    kernels = {kernel.__name__ for faster in ATTACHABLE.values() for kernel in faster}
    assert CHECK_OF.keys() == kernels | {"linear_cross_entropy"} | ENGINES.keys()
    assert set(CHECK_OF.values()) <= {check.name for check in CHECKS}


def test_every_row_has_a_fault_that_it_shows() -> None:
    shown = set[str]().union(*(fault.fails for fault in (*FAULTS, COMPILED)))
    assert shown == {check.name for check in CHECKS} - {"device"}  # which needs a GPU


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
        (kernels_that_are_never_attached, KERNELS),
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
