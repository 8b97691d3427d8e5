"""generation.py against the slow way: no cache, one row at a time, a plain loop."""

import pytest
import torch
from oracles.hugging_face import hugging_face_pair

from cfg_gpt2 import GPT2Config
from decoding.batch import RowBatch, prefill_groups, window_start
from decoding.engine import cache_bytes, complete, generate_rows
from decoding.rows import RowState
from decoding.sampling import sample_rows
from generation import SamplingConfig, generate, generate_tokens, sample, stream
from gpt2 import GPT2Model
from tokenizer import Tokenizer

CONFIG = GPT2Config(vocab_size=61, context_length=16, n_layer=2, n_head=2, n_embd=24, dropout=0.1)


@pytest.fixture(scope="module")
def model() -> GPT2Model:
    torch.manual_seed(3)
    model = GPT2Model(CONFIG).eval()
    with torch.no_grad():  # sharper than N(0, 0.02), so that the choices depend on the text
        for parameter in model.parameters():
            parameter.mul_(8)
    return model


def generate_without_cache(
    model: GPT2Model, prompt: list[int], config: SamplingConfig, seed: int
) -> list[int]:
    """Every token from a fresh forward pass over the window."""
    generator = torch.Generator().manual_seed(seed)
    row = RowState(prompt=prompt, seed=seed, generator=generator)
    for _ in range(config.max_new_tokens):
        text = prompt + row.tokens
        seen = text[window_start(len(text), CONFIG.context_length) :]
        with torch.no_grad():
            logits = model(torch.tensor([seen]))[:, -1]
        row.tokens.append(int(sample_rows(logits, [row], config)))
    return row.tokens


def some_prompts(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(61, (length,), generator=generator).tolist() for length in lengths]


SAMPLINGS = [
    SamplingConfig(max_new_tokens=30, temperature=0),
    SamplingConfig(max_new_tokens=30, temperature=1.0),
    SamplingConfig(max_new_tokens=30, temperature=0.7, top_k=7),
    SamplingConfig(max_new_tokens=30, temperature=1.3, top_p=0.8),
    SamplingConfig(max_new_tokens=30, temperature=0.9, top_k=20, top_p=0.9),
    SamplingConfig(
        max_new_tokens=30, temperature=1.1, min_p=0.02, repetition_penalty=1.2,
        presence_penalty=0.2, frequency_penalty=0.1, no_repeat_ngram=3,
        logit_bias=((5, 1.0),), banned=((7,), (1, 2)),
    ),
]  # fmt: skip


@pytest.mark.parametrize("config", SAMPLINGS, ids=str)
@pytest.mark.parametrize("prompt_length", [1, 5, 16, 40])
def test_cached_text_is_the_uncached_text_within_and_past_the_context(
    model: GPT2Model, config: SamplingConfig, prompt_length: int
) -> None:
    (prompt,) = some_prompts(prompt_length)
    assert list(stream(model, prompt, config)) == generate_without_cache(
        model, prompt, config, config.seed
    )


@pytest.mark.parametrize("config", SAMPLINGS[:5], ids=str)
@pytest.mark.parametrize("prompt_length", [1, 5, 16, 40])
def test_the_textbook_loop_gives_the_engines_tokens_within_and_past_the_context(
    model: GPT2Model, config: SamplingConfig, prompt_length: int
) -> None:
    (prompt,) = some_prompts(prompt_length)
    tokens = generate_tokens(
        model, prompt, config.max_new_tokens, temperature=config.temperature,
        top_k=config.top_k, top_p=config.top_p, seed=config.seed,
    )  # fmt: skip
    assert list(tokens) == list(stream(model, prompt, config))


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(0, None, None), (1.0, None, None), (0.7, 5, None), (1.3, None, 0.8), (0.9, 99, 1.0),
     (1.1, 20, 0.6), (1.0, 1, 0.01)],
)  # fmt: skip
def test_sample_written_out_is_the_engines(
    temperature: float, top_k: int | None, top_p: float | None
) -> None:
    config = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p)
    for seed in range(100):
        logits = 3 * torch.randn(1, 61, generator=torch.Generator().manual_seed(seed))
        row = RowState(prompt=[1], seed=seed, generator=torch.Generator().manual_seed(seed))
        generator = torch.Generator().manual_seed(seed)
        token = sample(logits, temperature, top_k, top_p, generator)
        assert torch.equal(token, sample_rows(logits, [row], config))


@pytest.mark.parametrize("config", SAMPLINGS, ids=str)
def test_each_of_eight_unequal_prompts_comes_out_as_if_alone(
    model: GPT2Model, config: SamplingConfig
) -> None:
    prompts = some_prompts(1, 3, 15, 16, 17, 24, 40, 3)
    together = generate(model, prompts, config)  # the windows move on at different times
    wanted = [
        generate_without_cache(model, p, config, config.seed + i) for i, p in enumerate(prompts)
    ]
    assert together == wanted


def test_the_logits_of_a_row_do_not_depend_on_its_neighbours(model: GPT2Model) -> None:
    prompts = some_prompts(2, 5, 16, 30)
    rows = [RowState(prompt=prompt, seed=0) for prompt in prompts]
    batch = RowBatch(model, rows, 40)
    alone = [RowBatch(model, [row], 40) for row in rows]
    pairs = [(batch.prefill(), torch.cat([one.prefill() for one in alone]))]
    for step in range(40):
        tokens = torch.tensor([[(7 * step + 3 * i) % 61] for i in range(4)])
        for row, token in zip(rows, tokens.flatten().tolist(), strict=True):
            row.tokens.append(token)
        single = [one.step(token[None]) for one, token in zip(alone, tokens, strict=True)]
        pairs.append((batch.step(tokens), torch.cat(single)))
    for together, singly in pairs:
        # the same sums in another order, for logits of size 10
        torch.testing.assert_close(together, singly, rtol=0, atol=1e-3)


def test_rows_that_have_ended_leave_the_batch(model: GPT2Model) -> None:
    # 5 + 10 tokens fit into the context, so no window is read anew
    prompts, config = some_prompts(2, 3, 4, 5), SamplingConfig(max_new_tokens=10, temperature=1.0)
    whole = generate(model, prompts, config)
    stop = whole[0][4]
    n_rows: list[int] = []
    hook = model.blocks[0].register_forward_hook(lambda block, x, out: n_rows.append(len(out)))
    cut = generate(model, prompts, config, stop_token=stop)
    hook.remove()
    assert cut == [row[: row.index(stop)] if stop in row else row for row in whole]
    # pass number n computes token number n of all rows that have one, a stop token included
    assert n_rows == [sum(min(len(row) + 1, 10) > n for row in cut) for n in range(len(n_rows))]
    assert n_rows[-1] < 4


def test_a_shared_prefix_is_read_once(model: GPT2Model) -> None:
    read: list[int] = []
    hook = model.blocks[0].register_forward_hook(
        lambda block, x, out: read.append(out.size(0) * out.size(1))
    )
    config = SamplingConfig(max_new_tokens=2, temperature=1.0)
    (prefix,) = some_prompts(12)
    prompts = [prefix] * 4 + [[*prefix, 3], [*prefix, 4, 5]]
    texts = generate(model, prompts, config)
    hook.remove()
    # 11 tokens once; what is left of six rows, padded to three each; one token for each row
    assert read == [11, 6 * 3, 6]
    for i, prompt in enumerate(prompts):
        assert texts[i] == generate_without_cache(model, prompt, config, config.seed + i)


def test_long_prompts_are_prefilled_in_groups(
    model: GPT2Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, config = some_prompts(3, 9, 9, 12, 16), SamplingConfig(max_new_tokens=20)
    whole = generate(model, prompts, config)
    monkeypatch.setattr("decoding.batch.PREFILL_TOKENS", 18)
    assert list(prefill_groups([3, 9, 9, 12, 16])) == [(0, 2), (2, 3), (3, 4), (4, 5)]
    assert generate(model, prompts, config) == whole


def test_log_probabilities_are_the_models_own(model: GPT2Model) -> None:
    prompts = some_prompts(2, 6)
    config = SamplingConfig(max_new_tokens=9, temperature=0.5, top_k=3, repetition_penalty=1.5)
    for row in complete(model, prompts, config):
        with torch.no_grad():
            logits = model(torch.tensor([row.prompt + row.tokens]))[0, len(row.prompt) - 1 : -1]
        own = logits.log_softmax(dim=-1)[torch.arange(9), torch.tensor(row.tokens)]
        assert row.log_probabilities == pytest.approx(own.tolist(), abs=1e-3)
        assert row.reason == "length"


def test_the_greedy_text_is_hugging_faces() -> None:
    config = GPT2Config(vocab_size=61, context_length=64, n_layer=2, n_head=2, n_embd=24)
    ours, theirs = hugging_face_pair(config)
    with torch.no_grad():
        for either in (ours, theirs):
            for parameter in either.parameters():
                parameter.mul_(6)
    prompts = some_prompts(1, 4, 9, 20)
    ways = [(1.0, None, 0), (1.3, None, 0), (1.0, 2, 0), (1.1, 3, 12)]
    for penalty, ngram, least in ways:
        sampling = SamplingConfig(
            max_new_tokens=40, temperature=0, repetition_penalty=penalty, no_repeat_ngram=ngram,
            min_new_tokens=least, stop_tokens=(9,),
        )  # fmt: skip
        found = generate(ours, prompts, sampling)
        for prompt, text in zip(prompts, found, strict=True):
            tokens = torch.tensor([prompt])
            wanted = theirs.generate(
                tokens, attention_mask=torch.ones_like(tokens), do_sample=False,
                max_new_tokens=40, min_new_tokens=least, repetition_penalty=penalty,
                no_repeat_ngram_size=ngram or 0, eos_token_id=9, pad_token_id=9,
            )  # fmt: skip
            new = wanted[0, len(prompt) :].tolist()
            assert text == (new[: new.index(9)] if 9 in new else new)


def test_cache_bytes_is_the_memory_of_the_cache(model: GPT2Model) -> None:
    for n_tokens in (9, 16, 400):
        rows = [RowState(prompt=prompt, seed=0) for prompt in ([1] * 4, [2])]
        batch = RowBatch(model, rows, n_tokens - 4)
        taken = sum(t.nbytes for layer in batch.cache for t in (layer.keys, layer.values))
        assert cache_bytes(model, 2, n_tokens) == taken


@pytest.fixture(scope="module")
def letters() -> Tokenizer:
    return Tokenizer.train(["мы да я 🦊 ab" * 9], vocab_size=280)


def test_stop_strings_end_rows_and_streamed_text_is_the_whole_text(letters: Tokenizer) -> None:
    torch.manual_seed(5)
    sizes = GPT2Config(vocab_size=letters.vocab_size, context_length=16, n_layer=1, n_head=1)
    model = GPT2Model(sizes).eval()
    config = SamplingConfig(max_new_tokens=30, temperature=1.0, stop=("a", "b", "я"), seed=3)
    rows = [RowState(prompt=[1], seed=seed) for seed in range(12)]
    shown = [""] * 12
    for _ in generate_rows(model, rows, config, letters):
        for i, row in enumerate(rows):
            assert row.text.startswith(shown[i])
            shown[i] = row.text
    assert shown == [row.text for row in rows]
    for row in rows:
        whole = letters.decode(row.tokens)
        if row.reason == "stop_string":
            assert whole.startswith(row.text + str(row.stopped_by))
            assert len(row.tokens) == len(row.log_probabilities)
        else:
            assert row.reason == "length" and whole.rstrip("\ufffd") == row.text.rstrip("\ufffd")
        assert not {"a", "b", "я"} & set(row.text)
    assert {row.reason for row in rows} == {"stop_string", "length"}


def test_a_huge_limit_costs_nothing_beforehand(model: GPT2Model) -> None:
    text = stream(model, [1], SamplingConfig(max_new_tokens=10**18, temperature=0))
    assert len([next(text) for _ in range(50)]) == 50


def test_too_little_memory_is_one_sentence(
    model: GPT2Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(model: GPT2Model, batch_size: int, capacity: int) -> None:
        torch.zeros(batch_size, capacity, 2**50)

    monkeypatch.setattr("decoding.batch.RaggedCache", too_large)
    with pytest.raises(ValueError, match=r"no memory for a cache of 2 texts of 16 tokens.*--sampl"):
        generate(model, [[1], [2]], SamplingConfig())


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
    row = RowState(prompt=[], seed=0, generator=torch.Generator().manual_seed(0))
    drawn = sample_rows(logits, [row] * 20_000, SamplingConfig(temperature=1.0))
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


def test_prompts_that_do_not_fit_are_refused(model: GPT2Model) -> None:
    config = SamplingConfig()
    with pytest.raises(ValueError, match="prompt 1 is empty; give at least one token"):
        generate(model, [[1], []], config)
    for wrong in (61, -1):
        with pytest.raises(ValueError, match=rf"token id {wrong}; the model has 0 to 60"):
            generate(model, [[1, wrong]], config)
    with pytest.raises(ValueError, match="stop strings need a tokenizer"):
        generate(model, [[1]], SamplingConfig(stop=("a",)))
    assert generate(model, [], config) == []
