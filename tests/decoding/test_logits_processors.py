"""logits_processors.py against Hugging Face's LogitsProcessors, one by one and together."""

import math
from collections.abc import Callable

import pytest
import torch
import transformers
from torch import Tensor
from transformers.generation import logits_process as theirs

from decoding.logits_processors import (
    TOP_P_CANDIDATES,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    last_tokens,
    penalize_frequency,
    process_logits,
    warp_logits,
)
from decoding.rows import RowState
from decoding.settings import SamplingConfig

V = 23
STOP = 4
GENERATOR = torch.Generator().manual_seed(1)


def random_logits(rows: int, size: int = V) -> Tensor:
    return 3 * torch.randn(rows, size, generator=GENERATOR)


def row(prompt: list[int], tokens: list[int]) -> RowState:
    return RowState(prompt=prompt, seed=0, tokens=tokens)


def random_rows(n_rows: int, length: int) -> tuple[list[RowState], Tensor]:
    """Prompts with new tokens, and both together as Hugging Face wants them."""
    whole = torch.randint(V, (n_rows, length), generator=GENERATOR)
    whole[:, -2:] = whole[:, :2]  # else few n-grams begin again
    halves = whole[:, : length // 2].tolist(), whole[:, length // 2 :].tolist()
    return [row(prompt, new) for prompt, new in zip(*halves, strict=True)], whole


PROCESSORS: dict[str, tuple[SamplingConfig, Callable[[int], theirs.LogitsProcessor]]] = {
    "logit bias": (
        SamplingConfig(logit_bias=((3, 1.5), (7, -2.0), (11, -math.inf))),
        lambda n: theirs.SequenceBiasLogitsProcessor({(3,): 1.5, (7,): -2.0, (11,): -math.inf}),
    ),
    "repetition penalty": (
        SamplingConfig(repetition_penalty=1.3),
        lambda n: theirs.RepetitionPenaltyLogitsProcessor(1.3),
    ),
    "no repeated 3-gram": (
        SamplingConfig(no_repeat_ngram=3),
        lambda n: theirs.NoRepeatNGramLogitsProcessor(3),
    ),
    "no repeated token": (
        SamplingConfig(no_repeat_ngram=1),
        lambda n: theirs.NoRepeatNGramLogitsProcessor(1),
    ),
    "banned sequences": (
        SamplingConfig(banned=((5,), (1, 6), (0, 1, 2), (9, 8))),
        lambda n: theirs.NoBadWordsLogitsProcessor([[5], [1, 6], [0, 1, 2], [9, 8]], [STOP]),
    ),
    "min new tokens": (
        SamplingConfig(min_new_tokens=9, stop_tokens=(STOP,)),
        lambda n: theirs.MinNewTokensLengthLogitsProcessor(n, 9, [STOP]),
    ),
}
WARPERS: dict[str, tuple[SamplingConfig, theirs.LogitsProcessor]] = {
    "temperature": (SamplingConfig(temperature=0.6), theirs.TemperatureLogitsWarper(0.6)),
    "top-k": (SamplingConfig(temperature=1.0, top_k=5), theirs.TopKLogitsWarper(5)),
    "top-p": (SamplingConfig(temperature=1.0, top_p=0.7), theirs.TopPLogitsWarper(0.7)),
    "min-p": (SamplingConfig(temperature=1.0, min_p=0.1), theirs.MinPLogitsWarper(0.1)),
}


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("length", [2, 7, 14, 20])  # shorter than V, so that some token is left
def test_each_processor_is_hugging_faces(name: str, length: int) -> None:
    config, processor = PROCESSORS[name]
    for _ in range(30):
        rows, whole = random_rows(6, length)
        logits = random_logits(6)
        wanted = processor(len(rows[0].prompt))(whole, logits.clone())
        assert torch.equal(process_logits(logits, rows, config), wanted)


@pytest.mark.parametrize("name", WARPERS)
@pytest.mark.parametrize("size", [V, 3 * TOP_P_CANDIDATES])
def test_each_warper_is_hugging_faces(name: str, size: int) -> None:
    config, warper = WARPERS[name]
    for scale in (0.01, 1.0, 5.0):  # nearly equal logits, and one that outdoes the others
        logits = random_logits(20, size) * scale
        wanted = warper(torch.zeros(20, 1, dtype=torch.long), logits.clone())
        assert torch.equal(warp_logits(logits, config), wanted)


def test_all_processors_together_are_hugging_faces_own_list() -> None:
    config = SamplingConfig(
        logit_bias=((3, 1.5), (7, -2.0)), repetition_penalty=1.2, no_repeat_ngram=2,
        banned=((5,), (1, 6)), min_new_tokens=8, stop_tokens=(STOP,),
        temperature=0.8, top_k=12, top_p=0.9, min_p=0.02,
    )  # fmt: skip
    settings = transformers.GenerationConfig(
        sequence_bias={(3,): 1.5, (7,): -2.0}, repetition_penalty=1.2, no_repeat_ngram_size=2,
        bad_words_ids=[[5], [1, 6]], min_new_tokens=8, eos_token_id=STOP,
        do_sample=True, temperature=0.8, top_k=12, top_p=0.9, min_p=0.02,
    )  # fmt: skip
    sizes = transformers.GPT2Config(
        vocab_size=V, n_positions=8, n_embd=4, n_layer=1, n_head=1,
        bos_token_id=STOP, eos_token_id=STOP,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(sizes)
    for length in (6, 12, 20):
        rows, whole = random_rows(50, length)
        logits = random_logits(50)
        # both are private, and the only way to the whole list
        model._prepare_special_tokens(settings, device="cpu")  # pyright: ignore
        processors = model._get_logits_processor(  # pyright: ignore
            settings, input_ids_seq_length=length // 2
        )
        assert len(processors) == 9
        wanted = processors(whole, logits.clone())
        ours = warp_logits(process_logits(logits, rows, config), config)
        assert torch.equal(ours, wanted)


def test_frequency_and_presence_are_counted_in_the_continuation_alone() -> None:
    logits = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    config = SamplingConfig(frequency_penalty=0.25, presence_penalty=0.5)
    rows = [row([2, 2], [0, 1, 0]), row([0], [])]
    # l - frequency * count - presence where count > 0
    assert process_logits(logits, rows, config).tolist() == [[0.0, 0.25, 1.0], [1.0, 1.0, 1.0]]
    rows = [row([2], [0]), row([2], [1])]
    assert penalize_frequency(logits, rows, 0.0, -1.0).tolist() == [[2, 1, 1], [1, 2, 1]]


def test_no_row_changes_another() -> None:
    config = SamplingConfig(
        repetition_penalty=1.4, presence_penalty=0.3, no_repeat_ngram=2, banned=((1, 6),),
        min_new_tokens=5, stop_tokens=(STOP,), top_k=9, top_p=0.8, min_p=0.05,
    )  # fmt: skip
    prompts = [random_rows(1, n)[0][0].prompt for n in (4, 9, 14, 30)]
    new = [random_rows(1, n)[0][0].tokens for n in (4, 8, 5, 20)]
    rows = [row(*pair) for pair in zip(prompts, new, strict=True)]
    logits = random_logits(4)
    together = warp_logits(process_logits(logits, rows, config), config)
    for i in range(4):
        alone = process_logits(logits[i : i + 1], rows[i : i + 1], config)
        assert torch.equal(together[i : i + 1], warp_logits(alone, config))


def test_the_logits_that_came_in_stay_as_they_were() -> None:
    for config, _ in [*PROCESSORS.values(), *WARPERS.values()]:
        rows, _ = random_rows(3, 14)
        logits = random_logits(3)
        before = logits.clone()
        warp_logits(process_logits(logits, rows, config), config)
        assert torch.equal(logits, before)


def test_top_k_keeps_the_k_most_likely() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0]])
    assert keep_top_k(logits, 2).tolist() == [[-math.inf, 3.0, -math.inf, 2.0]]
    assert keep_top_k(logits, 9) is logits


def test_top_p_keeps_the_smallest_set_that_holds_p() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log()

    def kept(top_p: float) -> list[int]:
        return keep_top_p(logits, top_p).isfinite().nonzero()[:, 1].tolist()

    assert kept(0.49) == kept(1e-9) == [1]  # never nothing
    assert kept(0.6) == [1, 3]
    assert kept(0.89) == [1, 2, 3]
    assert kept(0.95) == kept(1.0) == [0, 1, 2, 3]


def test_min_p_is_a_share_of_the_highest_probability() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log()
    assert keep_min_p(logits, 0.4).isfinite().tolist() == [[False, True, False, True]]
    assert keep_min_p(logits, 1.0).isfinite().tolist() == [[False, True, False, False]]


def test_a_row_without_any_token_left_is_refused() -> None:
    config = SamplingConfig(no_repeat_ngram=1)
    with pytest.raises(ValueError, match="no token is left to choose; loosen --no-repeat-ngram"):
        process_logits(random_logits(2), [row([1], []), row(list(range(V)), [])], config)


def test_last_tokens_reach_from_the_new_tokens_into_the_prompt() -> None:
    seven = row([1, 2, 3, 4], [5, 6, 7])
    text = [1, 2, 3, 4, 5, 6, 7]
    assert [last_tokens(seven, n) for n in range(8)] == [text[7 - n :] for n in range(8)]
    assert last_tokens(seven, 99) == text
    assert last_tokens(row([1], []), 2) == [1]
