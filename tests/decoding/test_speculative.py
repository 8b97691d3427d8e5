"""speculative.py: the greedy text stays the same, and a drawn one keeps its distribution."""

import copy

import pytest
import torch

from cfg_gpt2 import GPT2Config
from decoding.engine import complete
from decoding.rows import RowState
from decoding.sampling import probabilities
from decoding.settings import SamplingConfig
from decoding.speculative import Drafter, DraftModel, PromptLookup, Speculation, accept
from generation import generate, stream
from gpt2 import GPT2Model

CONFIG = GPT2Config(vocab_size=19, context_length=16, n_layer=2, n_head=2, n_embd=16)


@pytest.fixture(scope="module")
def model() -> GPT2Model:
    torch.manual_seed(3)
    model = GPT2Model(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
    return model


@pytest.fixture(scope="module")
def draft(model: GPT2Model) -> GPT2Model:
    """The model with other weights nearby: often right, often wrong."""
    draft = copy.deepcopy(model)
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter.add_(torch.randn_like(parameter) * parameter.abs().mean() * 0.2)
    return draft


def drafters(draft: GPT2Model) -> list[Drafter]:
    return [DraftModel(draft, CONFIG.vocab_size), PromptLookup(CONFIG.vocab_size)]


def prompts_of(n: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(7)
    lengths = torch.randint(1, 24, (n,), generator=generator).tolist()
    return [torch.randint(19, (m,), generator=generator).tolist() for m in lengths]


@pytest.mark.parametrize("n_proposals", [1, 3, 6])
@pytest.mark.parametrize("which", [0, 1])
def test_the_greedy_text_is_the_same(
    model: GPT2Model, draft: GPT2Model, which: int, n_proposals: int
) -> None:
    prompts = prompts_of(12)
    for config in (
        SamplingConfig(max_new_tokens=40, temperature=0),
        SamplingConfig(max_new_tokens=30, temperature=0, repetition_penalty=1.3, stop_tokens=(4,)),
    ):
        speculation = Speculation(drafters(draft)[which], n_proposals)
        fast = complete(model, prompts, config, speculation=speculation)
        wanted = complete(model, prompts, config)
        assert [row.tokens for row in fast] == [row.tokens for row in wanted]
        assert [row.reason for row in fast] == [row.reason for row in wanted]
        for row, other in zip(fast, wanted, strict=True):
            # the same sums in another order, over logits of size 10
            assert row.log_probabilities == pytest.approx(other.log_probabilities, abs=1e-3)
        assert 0 < speculation.n_accepted < speculation.n_proposed


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_the_greedy_text_is_the_same_for_200_prompts(
    model: GPT2Model, draft: GPT2Model, which: int
) -> None:
    config = SamplingConfig(max_new_tokens=40, temperature=0)
    prompts = prompts_of(200)
    fast = complete(model, prompts, config, speculation=Speculation(drafters(draft)[which], 4))
    assert [row.tokens for row in fast] == generate(model, prompts, config)


def chi_square(counts: torch.Tensor, p: torch.Tensor) -> float:
    """The statistic, over the cells that expect 5 or more and all others as one cell."""
    expected = p.double() * counts.sum()
    large = expected >= 5
    cells = [(counts[large].double(), expected[large])]
    if float(expected[~large].sum()) > 0:
        cells.append((counts[~large].double().sum()[None], expected[~large].sum()[None]))
    return sum(float(((seen - due) ** 2 / due).sum()) for seen, due in cells)


def limit(n_cells: int) -> float:
    """Exceeded by chance once in some 30,000 times (Wilson and Hilferty 1931, z = 4)."""
    k = n_cells - 1
    return k * (1 - 2 / (9 * k) + 4 * (2 / (9 * k)) ** 0.5) ** 3


def drawn_pairs(
    model: GPT2Model, drafter: Drafter, config: SamplingConfig, n_draws: int
) -> torch.Tensor:
    """How often each pair of second and third new tokens was drawn, which proposals decide."""
    counts = torch.zeros(19 * 19, dtype=torch.long)
    speculation = Speculation(drafter, 3)
    generator = torch.Generator().manual_seed(11)
    for _ in range(n_draws):
        row = RowState(prompt=[5, 9, 5, 9, 5], seed=11, generator=generator)
        with torch.inference_mode():
            for _ in speculation.generate(model, row, config):
                pass
        counts[row.tokens[1] * 19 + row.tokens[2]] += 1
    assert 0 < speculation.n_accepted < speculation.n_proposed
    return counts


@torch.no_grad()
def exact_pairs(model: GPT2Model, config: SamplingConfig) -> torch.Tensor:
    """The probability of each such pair, by summing over every first token."""
    prompt = [5, 9, 5, 9, 5]

    def following(new: list[list[int]]) -> torch.Tensor:
        logits = model(torch.tensor([prompt + row for row in new]))[:, -1]
        rows = [RowState(prompt=prompt, seed=0, tokens=tokens) for tokens in new]
        return probabilities(logits, rows, config)

    first = following([[]])[0]
    second = following([[a] for a in range(19)])
    third = following([[a, b] for a in range(19) for b in range(19)]).view(19, 19, 19)
    return torch.einsum("a,ab,abc->bc", first, second, third).flatten()


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    "n_draws", [300, pytest.param(20_000, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_drawn_text_has_the_models_own_distribution(
    model: GPT2Model, draft: GPT2Model, which: int, n_draws: int
) -> None:
    config = SamplingConfig(max_new_tokens=3, temperature=1.3, top_k=8, presence_penalty=0.5)
    exact = exact_pairs(model, config)
    assert float(exact.sum()) == pytest.approx(1, abs=1e-5)
    counts = drawn_pairs(model, drafters(draft)[which], config, n_draws)
    assert int(counts[exact == 0].sum()) == 0
    n_cells = int((exact * n_draws >= 5).sum()) + 1
    assert chi_square(counts, exact) < limit(n_cells)
    other = (exact + exact.roll(1)) / 2  # the test itself can tell
    assert chi_square(counts, other) > limit(int((other * n_draws >= 5).sum()) + 1)


def test_rejected_proposals_are_made_up_for_exactly() -> None:
    """One proposal, 10,000 times: min(p, q) + max(0, p - q) is p, whatever q is."""
    p = torch.tensor([[0.5, 0.1, 0.4, 0.0], [0.25, 0.25, 0.25, 0.25]])
    q = torch.tensor([[0.1, 0.6, 0.2, 0.1]])
    generator = torch.Generator().manual_seed(1)
    proposals = torch.multinomial(q[0], 10_000, replacement=True, generator=generator).tolist()
    firsts = torch.tensor([accept([token], q, p, generator)[0] for token in proposals])
    shares = firsts.bincount(minlength=4) / 10_000
    # the standard deviation of each share is 0.005
    torch.testing.assert_close(shares, p[0], atol=0.02, rtol=0)


def test_text_goes_on_past_the_context_and_the_seed_decides_it(
    model: GPT2Model, draft: GPT2Model
) -> None:
    config = SamplingConfig(max_new_tokens=50, temperature=1.0, seed=5)

    def text(prompts: list[list[int]]) -> list[int]:
        speculation = Speculation(DraftModel(draft, 19), 4)
        return complete(model, prompts, config, speculation=speculation)[0].tokens

    assert len(text([[1, 2]])) == 50
    assert text([[1, 2]]) == text([[1, 2], [3]])
    assert list(stream(model, [1, 2], config)) == list(stream(model, [1, 2], config))


def test_prompt_lookup_takes_the_latest_place_of_the_longest_match() -> None:
    lookup = PromptLookup(19)
    assert lookup.look_up([1, 2, 3, 7, 8, 2, 3, 9, 1, 2, 3], 2) == [7, 8]
    assert lookup.look_up([2, 3, 7, 8, 2, 3, 9, 0, 1, 2, 3], 9) == [9, 0, 1, 2, 3]
    assert lookup.look_up([1, 2, 3], 2) == []
    assert lookup.look_up([1], 2) == []
    assert lookup.look_up([1, 1], 2) == [1]


def test_a_draft_with_another_vocabulary_is_refused(model: GPT2Model) -> None:
    with pytest.raises(ValueError, match="the draft model has 19 tokens, the model 20; take one"):
        DraftModel(model, 20)
    with pytest.raises(ValueError, match="beams and speculation exclude each other"):
        config = SamplingConfig(temperature=0, beams=2)
        complete(model, [[1]], config, speculation=Speculation(PromptLookup(19), 2))
