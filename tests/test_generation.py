"""generation.py against the slow way: no cache, one row at a time, a plain loop."""


import pytest
import torch

from cfg_gpt2 import GPT2Config
from decoding.batch import window_start
from decoding.choice import choose
from generation import SamplingConfig, generate, stream
from gpt2 import GPT2Model

CONFIG = GPT2Config(vocab_size=61, context_length=16, n_layer=2, n_head=2, n_embd=24, dropout=0.1)


@pytest.fixture(scope="module")
def model() -> GPT2Model:
    torch.manual_seed(3)
    model = GPT2Model(CONFIG).eval()
    with torch.no_grad():  # sharper than N(0, 0.02), so that the choices depend on the text
        for parameter in model.parameters():
            parameter.mul_(8)
    return model


def written_slowly(
    model: GPT2Model, prompt: list[int], config: SamplingConfig, seed: int
) -> list[int]:
    """Every token from a fresh forward pass over the window."""
    generator = torch.Generator().manual_seed(seed)
    text = list(prompt)
    for _ in range(config.max_new_tokens):
        seen = text[window_start(len(text), CONFIG.context_length) :]
        with torch.no_grad():
            logits = model(torch.tensor([seen]))[:, -1]
        written = text[len(prompt) :]
        text.append(int(choose(logits, [prompt], [written], config, [generator])))
    return text[len(prompt) :]


SAMPLINGS = [
    SamplingConfig(max_new_tokens=60, temperature=0),
    SamplingConfig(max_new_tokens=60, temperature=1.0),
    SamplingConfig(max_new_tokens=60, temperature=0.7, top_k=7),
    SamplingConfig(max_new_tokens=60, temperature=1.3, top_p=0.8),
    SamplingConfig(max_new_tokens=60, temperature=0.9, top_k=20, top_p=0.9),
]


@pytest.mark.parametrize("config", SAMPLINGS, ids=str)
@pytest.mark.parametrize("prompt_length", [1, 5, 16, 40])
def test_cached_text_is_the_uncached_text_within_and_past_the_context(
    model: GPT2Model, config: SamplingConfig, prompt_length: int
) -> None:
    prompt = torch.randint(61, (prompt_length,), generator=torch.manual_seed(5)).tolist()
    assert list(stream(model, prompt, config)) == written_slowly(model, prompt, config, config.seed)


def test_a_batch_of_unequal_prompts_gives_each_what_it_gets_alone(model: GPT2Model) -> None:
    prompts = [[1], [2, 3, 4], [5], [6, 7, 8], list(range(30))]
    config = SamplingConfig(max_new_tokens=25, temperature=1.0, seed=11)
    together = generate(model, prompts, config)
    alone = [written_slowly(model, p, config, 11 + i) for i, p in enumerate(prompts)]
    assert together == alone


def test_the_seed_decides_the_text(model: GPT2Model) -> None:
    texts = {
        tuple(stream(model, [1, 2], SamplingConfig(max_new_tokens=30, temperature=1.0, seed=seed)))
        for seed in (1, 1, 2, 3)
    }
    assert len(texts) == 3


def test_text_ends_before_the_stop_token_and_each_row_for_itself(model: GPT2Model) -> None:
    config = SamplingConfig(max_new_tokens=40, temperature=1.0, seed=4)
    prompts = [[1], [2], [3], [4]]
    whole = generate(model, prompts, config)
    stop = whole[0][7]
    cut = generate(model, prompts, config, stop_token=stop)
    assert cut == [row[: row.index(stop)] if stop in row else row for row in whole]
    assert list(stream(model, [1], config, stop_token=stop)) == cut[0]


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log().expand(20_000, 3)
    one = torch.Generator().manual_seed(0)
    none: list[list[int]] = [[]] * 20_000
    drawn = choose(logits, none, none, SamplingConfig(temperature=1.0), [one] * 20_000)
    shares = drawn.flatten().bincount(minlength=3) / 20_000
    # the standard deviation of each share is below 0.0036
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.015, rtol=0)


def test_the_window_moves_by_half_a_context_and_always_leaves_room() -> None:
    starts = [window_start(n, 16) for n in range(1, 60)]
    assert starts[:16] == [0] * 16
    assert starts[16:24] == [8] * 8
    assert starts[24:32] == [16] * 8
    assert all(1 <= n - window_start(n, t) <= t for t in (1, 2, 3, 16) for n in range(1, 60))


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"top_k": 0}, {"max_new_tokens": 0}],
    ids=str,
)
def test_a_setting_out_of_range_is_named(wrong: dict) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match="--" + name.replace("_", "-")):
        SamplingConfig(**wrong)


def test_an_empty_prompt_is_refused(model: GPT2Model) -> None:
    with pytest.raises(ValueError, match="empty"):
        generate(model, [[]], SamplingConfig())
