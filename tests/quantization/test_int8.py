"""Int8 weights against the formula in NumPy, and their cost for a model that has learned."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cfg_gpt2 import GPT2Config
from decoding.engine import cache_bytes
from generation import SamplingConfig, generate
from gpt2 import GPT2Model
from loss import next_token_loss
from quantization.int8 import MAX_KERNEL_ROWS, QUANT_MAX, Int8Linear, quantize, quantize_rows

CONFIG = GPT2Config(vocab_size=67, context_length=40, n_layer=2, n_head=2, n_embd=32, dropout=0.0)


def model(config: GPT2Config = CONFIG) -> GPT2Model:
    torch.manual_seed(1)
    return GPT2Model(config).eval()


def test_every_quantized_weight_is_off_by_half_a_scale_at_most() -> None:
    torch.manual_seed(1)
    weight = torch.randn(50, 70) * torch.logspace(-6, 3, 50).unsqueeze(1)
    rows, scale = quantize_rows(weight)
    error = (rows * scale.unsqueeze(1) - weight).abs()
    # half a scale, and the rounding of fp32 in weight / scale and its inverse
    assert (error <= scale.unsqueeze(1) * (0.5 + 1e-5)).all()
    assert (rows.abs().amax(dim=1) == QUANT_MAX).all()


def test_a_row_of_zeros_stays_zero_and_has_scale_one() -> None:
    rows, scale = quantize_rows(torch.zeros(3, 8))
    assert not rows.any()
    assert (scale == 1).all()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (1, 1), (3, 1), (2, 5), (2, 9), (40,)])
def test_an_int8_linear_layer_equals_the_formula_in_numpy(
    bias: bool, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(1)
    linear = nn.Linear(48, 80, bias=bias)
    x = torch.randn(*shape, 48)
    y = Int8Linear(linear)(x).numpy()
    weight = linear.weight.detach().numpy().astype(np.float64)
    scale = np.abs(weight).max(axis=1, keepdims=True) / 127
    expected = x.numpy() @ (np.round(weight / scale) * scale).T
    if linear.bias is not None:
        expected = expected + linear.bias.detach().numpy()
    # bf16 rounds 48 inputs of about 1, each by 2^-9 at most and times a weight below 0.15, and the
    # sum of integers once; for many rows nothing is rounded, so a wrong kernel could not hide there
    few = x.numel() <= MAX_KERNEL_ROWS * 48
    bound = 2**-9 * (np.abs(x.numpy()) @ np.abs(weight).T + np.abs(expected)) if few else 1e-5
    assert (np.abs(y - expected) <= bound + 2e-5).all()


def test_all_matrices_but_the_position_embedding_are_int8_and_the_head_is_shared() -> None:
    small = quantize(model())
    kinds = {name: tensor.dtype for name, tensor in small.state_dict().items()}
    n_int8 = sum(dtype == torch.int8 for dtype in kinds.values())
    assert n_int8 == 4 * CONFIG.n_layer + 2  # of which two are one
    assert small.get_submodule("token_embedding.head") is small.lm_head
    assert [
        name for name, layer in small.named_modules() if isinstance(layer, nn.Linear | nn.Embedding)
    ] == ["position_embedding"]


def test_the_embedding_of_a_token_is_its_row_of_the_output_layer() -> None:
    small = quantize(model())
    tokens = torch.tensor([[0, 5, 66]])
    head = small.get_submodule("lm_head")
    assert isinstance(head, Int8Linear)
    rows = head.weight[tokens].float() * head.scale[tokens].unsqueeze(-1)
    assert torch.equal(small.token_embedding(tokens), rows)


def test_the_bytes_of_a_model_fall_to_little_more_than_a_quarter() -> None:
    config = replace(CONFIG, n_embd=128, vocab_size=2000)

    def n_bytes(m: GPT2Model) -> int:
        return sum({id(t): t.nbytes for t in [*m.parameters(), *m.buffers()]}.values())

    whole = model(config)
    before = n_bytes(whole)
    assert n_bytes(quantize(whole)) < 0.3 * before


def learned() -> GPT2Model:
    """A model that knows a pattern: each token is followed by three times itself plus one."""
    m = model()
    optimizer = torch.optim.AdamW(m.parameters(), lr=3e-3)
    for step in range(60):
        tokens = pattern(seed=step)
        loss, count = next_token_loss(m(tokens[:, :-1]), tokens[:, 1:])
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
    return m


def pattern(seed: int) -> torch.Tensor:
    """(16, 33): noisy, so that the entropy is above zero."""
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randint(67, (16,), generator=generator)]
    for _ in range(32):
        noise = torch.randint(67, (16,), generator=generator)
        keep = torch.rand(16, generator=generator) < 0.8
        columns.append(torch.where(keep, (3 * columns[-1] + 1) % 67, noise))
    return torch.stack(columns, dim=1)


def test_the_loss_of_a_trained_model_grows_by_less_than_half_a_percent() -> None:
    m = learned()
    tokens = pattern(seed=1000)
    with torch.inference_mode():
        before, count = next_token_loss(m(tokens[:, :-1]), tokens[:, 1:])
        after, _ = next_token_loss(quantize(m)(tokens[:, :-1]), tokens[:, 1:])
    assert before / count < 2.5  # log 67 is 4.2: it has learned
    assert after != before
    assert after < 1.005 * before


def test_greedy_text_is_the_same_with_and_without_cache_and_in_a_batch() -> None:
    small = quantize(learned())
    prompts = [[1], [4, 13, 40], [9, 28, 18, 55, 32, 30]]
    greedy = SamplingConfig(max_new_tokens=30, temperature=0)
    together = generate(small, prompts, greedy)
    assert together == [generate(small, [prompt], greedy)[0] for prompt in prompts]
    text = list(prompts[2])
    with torch.inference_mode():
        for _ in range(30):
            text.append(int(small(torch.tensor([text]))[0, -1].argmax()))
    assert together[2] == text[6:]


def test_the_cache_of_a_quantized_model_is_in_the_dtype_of_the_activations() -> None:
    small = quantize(model())
    assert small.new_cache(1)[0].keys.dtype == torch.float32
    assert cache_bytes(small, 1, 10) == 2 * 2 * 10 * 32 * 4
