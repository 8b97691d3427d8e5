import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.hugging_face import hugging_face_name, hugging_face_pair, turned
from oracles.numpy_gpt2 import numpy_logits
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cfg_gpt2 import PRESETS, GPT2Config, RunConfig
from decoding.ragged_cache import RaggedCache
from gpt2 import GPT2Model
from loss import next_token_loss
from multiheadattention import explicit_attention
from run_directory.config_file import write_config
from run_directory.weights import WEIGHTS_FILE, on_meta_device

TINY = GPT2Config(vocab_size=37, context_length=12, n_layer=3, n_head=3, n_embd=24, dropout=0.1)


def lively_model(config: GPT2Config = TINY, seed: int = 1) -> GPT2Model:
    """Random biases and norms as well, and weights so large that attention is uneven."""
    torch.manual_seed(seed)
    model = GPT2Model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.15)
    return model


def some_tokens(length: int, batch: int = 2, vocab_size: int = TINY.vocab_size) -> Tensor:
    return torch.randint(vocab_size, (batch, length), generator=torch.Generator().manual_seed(2))


# Against a second implementation ------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_logits_are_those_of_the_numpy_forward_pass(bias: bool) -> None:
    config = GPT2Config(vocab_size=37, context_length=12, n_layer=3, n_head=3, n_embd=24, bias=bias)
    model, tokens = lively_model(config), some_tokens(12)
    weights = {name: w.detach().numpy() for name, w in model.named_parameters()}
    wanted = numpy_logits(weights, tokens.numpy(), config.n_head)
    assert np.abs(wanted).max() > 1
    # fp64 against fp32 over three blocks: 7 digits less two for the sums
    np.testing.assert_allclose(model(tokens).detach().numpy(), wanted, rtol=1e-5, atol=1e-5)
    with explicit_attention():
        logits = model(tokens).detach().numpy()
    np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-5)


def agree_with_hugging_face(config: GPT2Config, length: int) -> None:
    ours, theirs = hugging_face_pair(config)
    tokens = some_tokens(length, vocab_size=config.vocab_size)
    logits = ours(tokens)
    answer = theirs(tokens, labels=tokens)
    # fp32 over n_layer blocks; logits are of size 1 to 10
    torch.testing.assert_close(logits, answer.logits, rtol=0, atol=1e-4)
    total, count = next_token_loss(logits[:, :-1], tokens[:, 1:])
    loss = total / count
    torch.testing.assert_close(loss, answer.loss, rtol=1e-5, atol=0)  # the mean of such logits
    loss.backward()
    answer.loss.backward()
    theirs_by_name = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        wanted = turned(name, theirs_by_name[hugging_face_name(name)].grad)
        distance = (parameter.grad - wanted).norm() / wanted.norm()
        assert distance < 1e-4, f"{name}: {distance:.1e}"  # fp32, back through every block


def test_logits_loss_and_gradients_are_those_of_hugging_face() -> None:
    agree_with_hugging_face(TINY, length=12)


@pytest.mark.slow
def test_logits_loss_and_gradients_are_those_of_hugging_face_at_full_size() -> None:
    agree_with_hugging_face(PRESETS["gpt2"], length=48)


# Time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("n_cached", [0, 4])
def test_future_tokens_cannot_change_past_logits(n_cached: int, explicit: bool) -> None:
    model, tokens = lively_model(), some_tokens(12)

    def logits(tokens: Tensor) -> Tensor:
        cache = model.new_cache(2)
        if n_cached:
            model(tokens[:, :n_cached], cache)
        return model(tokens[:, n_cached:], cache)

    def all_differences() -> None:
        before = logits(tokens)
        for t in range(n_cached, 12):
            changed = tokens.clone()
            changed[:, t] = (changed[:, t] + 1) % TINY.vocab_size
            difference = (logits(changed) - before).abs().amax(dim=-1)
            # the same sums in the same order; 1e-6 leaves room for another kernel's order
            assert (difference[:, : t - n_cached] <= 1e-6).all()
            assert (difference[:, t - n_cached :] > 1e-4).all()

    with torch.inference_mode():
        if explicit:
            with explicit_attention():
                all_differences()
        else:
            all_differences()


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("pieces", [[1] * 12, [12], [3] * 4, [5, 1, 4, 2], [9, 3]])
def test_logits_with_a_cache_are_those_without(pieces: list[int], explicit: bool) -> None:
    model, tokens = lively_model(), some_tokens(12)
    cache = model.new_cache(2)
    with torch.inference_mode():
        wanted = model(tokens)
        parts = []
        for piece in tokens.split(pieces, dim=1):
            if explicit:
                with explicit_attention():
                    parts.append(model(piece, cache))
            else:
                parts.append(model(piece, cache))
    # fp32, other shapes, so other orders of addition
    torch.testing.assert_close(torch.cat(parts, dim=1), wanted, rtol=1e-5, atol=1e-5)


def test_a_cleared_cache_begins_again_at_position_0() -> None:
    model, tokens = lively_model(), some_tokens(6)
    cache = RaggedCache(model, 2, TINY.context_length)
    with torch.inference_mode():
        first = model(tokens, cache)
        cache.truncate([0, 0])
        assert torch.equal(model(tokens, cache), first)


def test_written_out_and_fused_attention_give_the_same_logits() -> None:
    model, tokens = lively_model(), some_tokens(12)
    fused = model(tokens)
    with explicit_attention():
        # fp32 over three blocks
        torch.testing.assert_close(model(tokens), fused, rtol=1e-5, atol=1e-5)


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    model, tokens = lively_model(), some_tokens(7, batch=3)
    alone = torch.cat([model(row[None]) for row in tokens])
    torch.testing.assert_close(model(tokens), alone, rtol=1e-5, atol=1e-5)  # other shapes, as above


@pytest.mark.parametrize("n_cached", [0, 5])
def test_too_many_tokens_are_refused_with_both_numbers(n_cached: int) -> None:
    model = lively_model()
    cache = model.new_cache(1)
    if n_cached:
        model(torch.zeros(1, n_cached, dtype=torch.long), cache)
    with pytest.raises(ValueError, match="13 tokens are more than context_length 12"):
        model(torch.zeros(1, 13 - n_cached, dtype=torch.long), cache)
    model(torch.zeros(1, 12 - n_cached, dtype=torch.long), cache)


@pytest.mark.parametrize(
    "place",
    [  # GPT-2's four
        "embedding_dropout",
        "blocks.0.attention.attention_dropout",
        "blocks.0.attention.residual_dropout",
        "blocks.0.feedforward.residual_dropout",
    ],
)
def test_dropout_acts_at_each_place_in_training_only(place: str) -> None:
    model, tokens = lively_model(), some_tokens(12)
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            assert module.p == TINY.dropout
            module.p = 0.5 if name == place else 0.0
    assert torch.equal(model(tokens), model(tokens))
    model.train()
    assert not torch.equal(model(tokens), model(tokens))


# Size and initialization --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("gpt2", 124_439_808),
        ("gpt2-medium", 354_823_168),
        ("gpt2-large", 774_030_080),
        ("gpt2-xl", 1_557_611_200),
        # the book: GPT-2 less (1024 - 256) positions of 768 numbers
        ("book", 124_439_808 - 768 * 768),
    ],
)
def test_presets_have_the_published_number_of_parameters(name: str, count: int) -> None:
    with on_meta_device():
        assert GPT2Model(PRESETS[name]).n_parameters() == count


def test_a_model_on_the_meta_device_takes_no_memory_and_does_not_import_the_compiler() -> None:
    code = """
import sys
from cfg_gpt2 import GPT2Config
from gpt2 import GPT2Model
from run_directory.weights import on_meta_device
from run_directory.weights import on_meta_device

with on_meta_device():
    model = GPT2Model(GPT2Config())
assert all(p.is_meta for p in model.parameters())
print("torch._dynamo" in sys.modules)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "False", answer.stderr


def test_weights_are_drawn_as_in_gpt2() -> None:
    torch.manual_seed(4)
    config = PRESETS["tiny"]
    scaled = 0.02 / math.sqrt(2 * config.n_layer)
    for name, parameter in GPT2Model(config).named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            wanted = scaled if name.endswith(("out_proj.weight", "narrow_proj.weight")) else 0.02
            # the std of n draws is off by 1 / sqrt(2n), their mean by std / sqrt(n): 5 of either
            n = parameter.numel()
            assert abs(parameter.std().item() / wanted - 1) < 5 / math.sqrt(2 * n), name
            assert abs(parameter.mean().item()) < 5 * wanted / math.sqrt(n), name


@pytest.mark.parametrize(
    "config",
    [
        PRESETS["tiny"],
        GPT2Config(vocab_size=50257, context_length=32, n_layer=2, n_head=2, n_embd=64),
    ],
)
def test_the_untrained_model_knows_nothing(config: GPT2Config) -> None:
    torch.manual_seed(5)
    model = GPT2Model(config).eval()
    tokens = torch.randint(config.vocab_size, (4, 33))[:, : config.context_length + 1]
    with torch.inference_mode():
        total, count = next_token_loss(model(tokens[:, :-1]), tokens[:, 1:])
    # all tokens equally likely, but for the small random logits
    assert (total / count).item() == pytest.approx(math.log(config.vocab_size), rel=0.03)


def test_the_same_seed_gives_the_same_weights() -> None:
    def drawn(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return [p.detach() for p in GPT2Model(TINY).parameters()]

    assert all(map(torch.equal, drawn(1), drawn(1)))
    assert not all(map(torch.equal, drawn(1), drawn(2)))


def test_a_generator_draws_the_weights_without_touching_the_global_one() -> None:
    model = lively_model()
    state = torch.get_rng_state()
    model.init_weights(torch.Generator().manual_seed(1))
    first = {name: p.detach().clone() for name, p in model.named_parameters()}
    lively = GPT2Model(TINY)
    torch.set_rng_state(state)
    lively.init_weights(torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, first[name]) for name, p in lively.named_parameters())


def test_the_head_is_the_token_embedding() -> None:
    model = lively_model()
    assert model.lm_head.weight is model.token_embedding.weight
    assert model.n_parameters() == sum(p.numel() for _, p in model.named_parameters())
    next_token_loss(model(some_tokens(5)), some_tokens(5))[0].backward()
    read = set(some_tokens(5).flatten().tolist())
    written_only = [t for t in range(TINY.vocab_size) if t not in read]
    assert (model.token_embedding.weight.grad[written_only] != 0).all()


# The file -----------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(
    n_layer=st.integers(1, 3),
    n_head=st.integers(1, 3),
    head_dim=st.integers(1, 5),
    vocab_size=st.integers(1, 9),
    bias=st.booleans(),
)
def test_a_saved_model_comes_back_bit_by_bit(
    tmp_path_factory: pytest.TempPathFactory,
    n_layer: int,
    n_head: int,
    head_dim: int,
    vocab_size: int,
    bias: bool,
) -> None:
    folder = tmp_path_factory.mktemp("run")
    config = GPT2Config(
        vocab_size=vocab_size,
        context_length=5,
        n_layer=n_layer,
        n_head=n_head,
        n_embd=n_head * head_dim,
        bias=bias,
    )
    model = lively_model(config)
    model.save(folder)
    again = GPT2Model.load(folder)
    assert again.config == config and not again.training
    pairs = zip(model.named_parameters(), again.named_parameters(), strict=True)
    assert all(a == b and torch.equal(v, w) for (a, v), (b, w) in pairs)
    tokens = some_tokens(5, vocab_size=vocab_size)
    # the weights are equal bit by bit; sums over them may go in another order, since a file places
    # them at other addresses than memory does
    torch.testing.assert_close(again(tokens), model(tokens), rtol=1e-5, atol=1e-5)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "some run"
    lively_model().save(folder)
    return folder


def test_the_tied_head_is_stored_once_and_tied_again(run_dir: Path) -> None:
    with safe_open(run_dir / WEIGHTS_FILE, "pt") as file:
        names = set(file.keys())
    assert names == {name for name, _ in lively_model().named_parameters()}
    assert "lm_head.weight" not in names
    model = GPT2Model.load(run_dir)
    assert model.lm_head.weight is model.token_embedding.weight
    assert model.n_parameters() == lively_model().n_parameters()


def test_saving_again_replaces_the_weights_and_leaves_config_json(run_dir: Path) -> None:
    before = (run_dir / "config.json").read_bytes()
    other = lively_model(seed=9)
    other.save(run_dir)
    assert torch.equal(GPT2Model.load(run_dir).final_norm.weight, other.final_norm.weight)
    assert (run_dir / "config.json").read_bytes() == before
    assert sorted(p.name for p in run_dir.iterdir()) == ["config.json", WEIGHTS_FILE]


def test_bf16_weights_are_read_as_fp32(run_dir: Path) -> None:
    weights = {n: w.bfloat16() for n, w in load_file(run_dir / WEIGHTS_FILE).items()}
    save_file(weights, run_dir / WEIGHTS_FILE)
    model = GPT2Model.load(run_dir)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.lm_head.weight is model.token_embedding.weight


def refused(run_dir: Path, error: type[Exception], named: Path) -> str:
    """The sentence with which loading ends; it is one line and names the file."""
    with pytest.raises(error) as caught:
        GPT2Model.load(run_dir)
    sentence = str(caught.value)
    assert type(caught.value) is error
    assert str(named) in sentence
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(run_dir: Path, share: float) -> None:
    file = run_dir / WEIGHTS_FILE
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    refused(run_dir, ValueError, file)


def test_a_file_of_another_kind_is_refused(run_dir: Path) -> None:
    (run_dir / WEIGHTS_FILE).write_text("not weights at all", encoding="utf-8")
    refused(run_dir, ValueError, run_dir / WEIGHTS_FILE)


def rewrite(run_dir: Path, name: str, tensor: Tensor | None) -> None:
    weights = load_file(run_dir / WEIGHTS_FILE)
    weights.pop(name, None)
    save_file(weights | ({} if tensor is None else {name: tensor}), run_dir / WEIGHTS_FILE)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("blocks.1.attention.qkv_proj.weight", None),
        ("token_embedding.weight", None),
        ("blocks.3.attention_norm.weight", torch.ones(24)),
        ("lm_head.weight", torch.zeros(37, 24)),
        ("final_norm.weight", torch.ones(25)),
        ("blocks.0.feedforward.widen_proj.weight", torch.ones(24, 96)),  # Conv1D's way round
        ("token_embedding.weight", torch.ones(38, 24)),
    ],
)
def test_a_missing_extra_or_misshaped_tensor_is_refused_by_name(
    run_dir: Path, name: str, tensor: Tensor | None
) -> None:
    rewrite(run_dir, name, tensor)
    assert name in refused(run_dir, ValueError, run_dir / WEIGHTS_FILE)


def test_weights_of_another_size_of_model_are_refused(run_dir: Path) -> None:
    deeper = GPT2Config(vocab_size=37, context_length=12, n_layer=4, n_head=3, n_embd=24)
    write_config(run_dir, RunConfig(model=deeper))
    assert "blocks.3." in refused(run_dir, ValueError, run_dir / WEIGHTS_FILE)


def test_a_folder_without_weights_without_config_or_no_folder_is_refused(run_dir: Path) -> None:
    (run_dir / WEIGHTS_FILE).unlink()
    refused(run_dir, FileNotFoundError, run_dir / WEIGHTS_FILE)
    (run_dir / "config.json").unlink()
    refused(run_dir, FileNotFoundError, run_dir / "config.json")
    refused(run_dir / "nowhere", FileNotFoundError, run_dir / "nowhere")
