"""The compiled step gives what the written-out model gives: logits, caches and texts.

Where all numbers are fp32 the two differ by the order of their sums: logits of size 1 by some
1e-6. bf16 and int8 weights are compared with a model that has exactly those weights in fp32.
"""

import json
import platform
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import main
from cfg_gpt2 import GPT2Config
from commands.generate import use_native
from decoding.engine import complete
from decoding.speculative import DraftModel, PromptLookup, Speculation
from generation import SamplingConfig, generate
from gpt2 import GPT2Model
from multiheadattention import explicit_attention
from native import build, compiled
from native.compiled import MAX_STEP_TOKENS, CompiledGPT2, compile_model, has_threads
from quantization.int8 import quantize
from tokenizer import Tokenizer
from training.kernels import choose_kernels, use_kernels
from training.kernels.gelu import GELUKernel

# heads of 24 = 16 + 8: whole vectors and a rest; vocabulary and rows that no group divides
SIZES = GPT2Config(vocab_size=101, context_length=40, n_layer=2, n_head=3, n_embd=72, dropout=0.0)
BOUND = 2e-5  # of logits of size 1 to 10, summed over 72 to 288 channels in another order
PROMPTS = [[5, 17, 99], [1], [3] * 30, [7, 8, 9, 10, 11, 12, 13]]


@pytest.fixture(autouse=True)
def _needs_a_compiler() -> None:
    if compiled.missing(new_model()):
        pytest.skip(str(compiled.missing(new_model())))


def new_model(sizes: GPT2Config = SIZES) -> GPT2Model:
    """Weights of a size at which every part of the formula counts."""
    torch.manual_seed(5)
    model = GPT2Model(sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def in_precision(model: GPT2Model, precision: str) -> GPT2Model:
    if precision == "int8":
        return quantize(model)
    return model.bfloat16() if precision == "bf16" else model


def with_its_weights_in_fp32(model: GPT2Model) -> GPT2Model:
    """A plain model whose weights are what bf16 or int8 ones stand for."""
    plain = new_model(model.config)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            owner = model.get_submodule(name.rpartition(".")[0])
            if name == "token_embedding.weight":
                owner = model.lm_head
            stored: Tensor = getattr(owner, name.rpartition(".")[2])
            scale = getattr(owner, "scale", None)
            wide = stored.float()
            parameter.copy_(wide if scale is None or wide.dim() < 2 else wide * scale[:, None])
    return plain


def read_in_steps(model: GPT2Model, tokens: Tensor, sizes: list[int]) -> Tensor:
    """(B, T) -> (B, T, V), some positions at a time; the explicit formula where it is PyTorch's."""
    cache = model.new_cache(len(tokens))
    with torch.inference_mode(), explicit_attention():
        return torch.cat([model(part, cache).float() for part in tokens.split(sizes, 1)], dim=1)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize(("n_rows", "sizes"), [
    (1, [1] * 40), (2, [1] * 40), (3, [5] * 8), (7, [2] * 20), (16, [1] * 40), (1, [16, 16, 8]),
])  # fmt: skip
def test_logits_are_those_of_the_formula(precision: str, n_rows: int, sizes: list[int]) -> None:
    model = in_precision(new_model(), precision)
    tokens = torch.randint(SIZES.vocab_size, (n_rows, 40), generator=torch.manual_seed(1))
    expected = read_in_steps(with_its_weights_in_fp32(model), tokens, [40])
    seen = read_in_steps(compile_model(model), tokens, sizes)
    # a cache in bf16 rounds keys and values to 8 bits, as the cache of a bf16 model does
    bound = 0.06 if precision == "bf16" else BOUND
    assert (seen - expected).abs().max() < bound * expected.abs().max()


@pytest.mark.parametrize("n_rows", [1, 2, 16])
def test_bf16_rows_that_whole_tiles_hold(n_rows: int) -> None:
    """96 channels are three tiles deep, 288 rows six tiles; 101 tokens leave five rows over."""
    model = in_precision(new_model(replace(SIZES, n_embd=96)), "bf16")
    tokens = torch.randint(SIZES.vocab_size, (n_rows, 40), generator=torch.manual_seed(1))
    expected = read_in_steps(with_its_weights_in_fp32(model), tokens, [40])
    seen = read_in_steps(compile_model(model), tokens, [1] * 40)
    assert (seen - expected).abs().max() < 0.06 * expected.abs().max()


def test_without_biases() -> None:
    model = new_model(replace(SIZES, bias=False))
    tokens = torch.randint(SIZES.vocab_size, (2, 40), generator=torch.manual_seed(1))
    expected = read_in_steps(model, tokens, [40])
    seen = read_in_steps(compile_model(model), tokens, [1] * 40)
    assert (seen - expected).abs().max() < BOUND * expected.abs().max()


def test_what_it_writes_into_the_cache_the_model_can_read() -> None:
    model = new_model()
    tokens = torch.randint(SIZES.vocab_size, (2, 40), generator=torch.manual_seed(2))
    native = compile_model(new_model())
    cache = model.new_cache(2)
    with torch.inference_mode():
        parts = [
            (model if i % 2 else native)(part, cache) for i, part in enumerate(tokens.split(4, 1))
        ]
        expected = model(tokens)
    assert (torch.cat(parts, dim=1) - expected).abs().max() < BOUND * expected.abs().max()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_texts_are_the_same(precision: str) -> None:
    """Greedy and drawn, rows of unequal length, past the context, rows that end early."""
    for config in (
        SamplingConfig(max_new_tokens=60, temperature=0),
        SamplingConfig(max_new_tokens=60, temperature=0.9, top_p=0.9, seed=3, stop_tokens=(7,)),
    ):
        model = in_precision(new_model(), precision)
        exact = with_its_weights_in_fp32(model)
        expected = generate(exact, PROMPTS, config)
        seen = generate(compile_model(model), PROMPTS, config)
        assert seen == expected
        assert [generate(model, [p], replace(config, seed=config.seed + i))[0]
                for i, p in enumerate(PROMPTS)] == expected  # fmt: skip


def test_proposals_are_checked_by_native_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SamplingConfig(max_new_tokens=50, temperature=0)
    expected = complete(new_model(), PROMPTS, config)
    model = compile_model(new_model())
    assert isinstance(model, CompiledGPT2)
    n_tokens: list[int] = []
    run = model.native.run

    def counted(work: compiled.TokenPointers) -> None:
        n_tokens.append(work.n_tokens)
        run(work)

    monkeypatch.setattr(model.native, "run", counted)
    draft = compile_model(new_model(replace(SIZES, n_layer=1)))
    for drafter in (PromptLookup(101), DraftModel(draft, 101)):
        n_tokens.clear()
        seen = complete(model, PROMPTS, config, speculation=Speculation(drafter, 4))
        assert [row.tokens for row in seen] == [row.tokens for row in expected]
        assert max(n_tokens) == 5  # four proposals and the token before them


def test_what_is_not_a_small_step_is_left_to_pytorch() -> None:
    model = new_model()
    tokens = torch.randint(
        SIZES.vocab_size, (1, MAX_STEP_TOKENS + 1), generator=torch.manual_seed(2)
    )
    expected = model(tokens)
    compile_model(model)
    assert torch.equal(model(tokens), expected)  # no cache
    assert model(tokens).requires_grad  # training goes on as ever
    cache = model.new_cache(1)
    with torch.inference_mode():
        assert torch.equal(model(tokens, cache), expected)  # too many
    with pytest.raises(ValueError, match="room for 40"), torch.inference_mode():
        for _ in range(40):
            model(tokens[:, :1], cache)


def test_a_cache_that_does_not_fit_is_left_to_pytorch_which_refuses() -> None:
    """The step follows pointers: in a cache of another shape they would lead out of it."""
    model, tokens = compile_model(new_model()), torch.tensor([[5], [6]])
    double = model.new_cache(2)
    for layer in double:
        layer.keys, layer.values = layer.keys.double(), layer.values.double()
    with torch.inference_mode():
        with pytest.raises(RuntimeError, match="dtype"):
            model(tokens, double)
        with pytest.raises(RuntimeError, match="size"):
            model(tokens, model.new_cache(3))
        with pytest.raises(IndexError):
            model(tokens, model.new_cache(2)[:1])
    model.train()  # with dropout, if there is any
    with torch.no_grad():
        plain = GPT2Model.forward(model, tokens, model.new_cache(2))
        assert torch.equal(model(tokens, model.new_cache(2)), plain)


def test_several_threads_write_at_once_with_the_same_model() -> None:
    config = SamplingConfig(max_new_tokens=60, temperature=0.9, seed=3)
    model = compile_model(new_model())
    expected = [generate(model, [prompt], config) for prompt in PROMPTS]
    with ThreadPoolExecutor(len(PROMPTS)) as pool:
        for _ in range(3):
            seen = pool.map(lambda prompt: generate(model, [prompt], config), PROMPTS)
            assert [*seen] == expected


def test_any_number_of_threads_gives_the_same() -> None:
    model, tokens = compile_model(new_model()), torch.tensor([[5], [6], [7]])
    before, seen = torch.get_num_threads(), []
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        with torch.inference_mode():
            seen.append(model(tokens, model.new_cache(3)))
    torch.set_num_threads(before)
    for other in seen[1:]:  # rows are dealt out otherwise, and summed in another order
        assert (other - seen[0]).abs().max() < BOUND * seen[0].abs().max()


# Compiling ----------------------------------------------------------------------------------


@pytest.fixture
def nothing_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(build, "BUILT", tmp_path / "built")
    quick = tuple(flag for flag in build.FLAGS if flag != "-O3")  # a second, and not four
    monkeypatch.setattr(build, "FLAGS", quick)
    build.library.cache_clear()
    yield tmp_path / "built"
    build.library.cache_clear()


def test_it_is_compiled_once_and_anew_when_one_of_its_sources_changes(
    nothing_built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in build.SOURCES:
        (tmp_path / name).write_text('extern "C" int has_threads() { return 0; }\n')
    monkeypatch.setattr(build, "SOURCE_DIR", tmp_path)
    build.library()
    (first,) = nothing_built.iterdir()
    build.library.cache_clear()
    made = first.stat().st_mtime_ns
    build.library()
    assert [file.stat().st_mtime_ns for file in nothing_built.iterdir()] == [made]
    for n_built, name in enumerate(build.SOURCES, start=2):
        with (tmp_path / name).open("a") as changed:
            changed.write("\n")
        build.library.cache_clear()
        build.library()
        assert len(list(nothing_built.iterdir())) == n_built


def test_a_compiler_without_openmp_makes_a_step_of_one_thread(
    nothing_built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.setattr(build, "OPENMP", "-fno-such-flag")
        model = new_model()
        expected = read_in_steps(model, torch.tensor([[5, 6]]), [2])
        seen = read_in_steps(compile_model(model), torch.tensor([[5, 6]]), [1, 1])
        assert (seen - expected).abs().max() < BOUND * expected.abs().max()
        assert not has_threads()
    build.library.cache_clear()
    compile_model(new_model())  # OpenMP has been installed: what was built without is not taken
    assert has_threads() and len(list(nothing_built.iterdir())) == 2


def test_several_at_once_compile_it_and_leave_one_file(nothing_built: Path) -> None:
    build_alone = build.library.__wrapped__
    with ThreadPoolExecutor(2) as pool:
        for built in [pool.submit(build_alone) for _ in range(2)]:
            assert built.result().has_threads() in (0, 1)
    assert len(list(nothing_built.iterdir())) == 1


def test_what_the_compiler_says_becomes_one_sentence(
    nothing_built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in build.SOURCES:
        (tmp_path / name).write_text("int main( {", encoding="utf-8")
    monkeypatch.setattr(build, "SOURCE_DIR", tmp_path)
    with pytest.raises(ValueError, match=r"cannot compile step\.cpp: .*error.*--native off"):
        compile_model(new_model())
    assert not list(nothing_built.glob("*"))  # nor the folder itself


def test_the_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = Tokenizer.train(["The cat sat on the mat. " * 20], 280)
    new_model(replace(SIZES, vocab_size=tokenizer.vocab_size)).save(tmp_path)
    tokenizer.save(tmp_path)
    taken: list[GPT2Model] = []

    def noted(model: GPT2Model) -> GPT2Model:
        compile_model(model)
        taken.append(model)
        return model

    def texts(*flags: str) -> list[str]:
        arguments = ["generate", str(tmp_path), "--json", "--temperature", "0", *flags]
        assert main.main([*arguments, "--max-new-tokens", "20", "--prompt", "The"]) == 0
        return [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]

    monkeypatch.setattr(compiled, "compile_model", noted)
    plain = texts("--native", "off")
    assert texts() == plain and not taken  # small, so auto lets it be
    assert texts("--native", "on") == plain and len(taken) == 1
    assert texts("--compile", "off") == plain and len(taken) == 1  # the earlier name
    monkeypatch.setattr("commands.generate.is_large", lambda sizes: True)
    assert texts() == plain and len(taken) == 2
    monkeypatch.setattr(compiled, "which", lambda name: None)
    assert texts() == plain and len(taken) == 2
    assert main.main(["generate", str(tmp_path), "--native", "on", "--prompt", "The"]) == 2
    said = capsys.readouterr().err
    assert "there is no C++ compiler" in said and "--native on" in said and said.count("\n") == 1


def test_where_it_cannot_compile_by_itself_it_writes_as_ever_and_says_so(
    nothing_built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A compiler that is there and does nothing, as Apple's before its tools are installed."""
    monkeypatch.setattr("commands.generate.is_large", lambda sizes: True)
    monkeypatch.setattr(build, "FLAGS", ("-fno-such-flag",))
    model = new_model()
    use_native(model, "auto")
    said = capsys.readouterr().err
    assert said.startswith("decode steps run in PyTorch: ") and said.count("\n") == 1
    assert type(model) is GPT2Model
    with pytest.raises(ValueError, match=r"cannot compile step\.cpp: .*no-such-flag"):
        use_native(model, "on")
    (tmp_path / "file").touch()
    monkeypatch.setattr(build, "BUILT", tmp_path / "file")
    use_native(model, "auto")
    assert capsys.readouterr().err.startswith("decode steps run in PyTorch: ")
    monkeypatch.undo()
    with monkeypatch.context() as windows:
        windows.setattr("os.name", "nt")
        wrong = compiled.missing(model)
    assert wrong == "it is for Linux and macOS"


def test_what_it_cannot_take_is_said() -> None:
    with pytest.raises(ValueError, match="n-embd 6 is no multiple of 4"):
        compile_model(new_model(replace(SIZES, n_head=2, n_embd=6)))
    with pytest.raises(ValueError, match=r"not torch\.float64 with torch\.float64"):
        compile_model(new_model().double())
    with pytest.raises(ValueError, match=r"not torch\.int8 with torch\.bfloat16"):
        compile_model(quantize(new_model().bfloat16()))  # its cache would be bf16


@pytest.mark.parametrize("processor", ["this machine's", "with AMX", "without AVX-512"])
@pytest.mark.parametrize("level", ["-O0", pytest.param("-O3", marks=pytest.mark.slow)])
def test_the_source_has_no_warnings(tmp_path: Path, processor: str, level: str) -> None:
    flags = {
        "this machine's": [build.NATIVE],
        "with AMX": ["-march=sapphirerapids"],
        "without AVX-512": ["-march=haswell"],
    }[processor]
    if flags != [build.NATIVE] and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("of another family of processors")
    compiler = next(name for name in build.COMPILERS if compiled.which(name))
    plain = [flag for flag in build.FLAGS if flag not in (build.NATIVE, "-O3")]
    done = subprocess.run(
        [compiler, *plain, level, *flags, build.OPENMP, "-Wall", "-Wextra", "-Wno-psabi",
         "-Wno-maybe-uninitialized",  # of g++'s own headers
         str(build.SOURCE_DIR / build.SOURCES[-1]), "-o", str(tmp_path / "step.so")],
        capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_class_alone_is_exchanged_and_kernels_stay() -> None:
    """The state dict, the weights' memory and the classes of the layers are as before."""
    model = new_model()
    use_kernels(model, choose_kernels(model.device, model.dtype))
    layers = {name: type(layer) for name, layer in model.named_modules() if name}
    assert GELUKernel in layers.values()
    addresses = {name: p.data_ptr() for name, p in model.named_parameters()}
    assert compile_model(model) is model and type(model) is CompiledGPT2
    assert {name: type(layer) for name, layer in model.named_modules() if name} == layers
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == addresses
    assert [*model.state_dict()] == [*new_model().state_dict()]
    config = SamplingConfig(max_new_tokens=20, temperature=0)
    assert generate(model, PROMPTS, config) == generate(new_model(), PROMPTS, config)
    assert generate(compile_model(model), PROMPTS, config) == generate(model, PROMPTS, config)
