"""beam.py against Hugging Face's beam search, with the same weights."""

from dataclasses import replace

import pytest
import torch
from oracles.hugging_face import hugging_face_pair
from torch import nn

from cfg_gpt2 import GPT2Config
from decoding.batch import window_start
from decoding.beam import beam_search
from decoding.engine import generate_rows
from decoding.rows import RowState
from decoding.settings import SamplingConfig
from generation import generate
from gpt2 import GPT2Model

CONFIG = GPT2Config(vocab_size=31, context_length=48, n_layer=2, n_head=2, n_embd=16)
STOP, PAD = 7, 30
BIAS = 4.0  # makes the stop token likely enough to be met
FOUR = SamplingConfig(
    max_new_tokens=9, temperature=0, beams=4, stop_tokens=(STOP,), logit_bias=((STOP, BIAS),)
)


@pytest.fixture(scope="module")
def pair() -> tuple[GPT2Model, nn.Module]:
    ours, theirs = hugging_face_pair(CONFIG)
    with torch.no_grad():  # sharper, so that paths differ in more than rounding
        for model in (ours, theirs):
            for parameter in model.parameters():
                parameter.mul_(6)
    return ours, theirs


@pytest.mark.parametrize("beams", [2, 3, 5])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 2.0, -0.5])
def test_texts_and_scores_are_hugging_faces(
    pair: tuple[GPT2Model, nn.Module], beams: int, length_penalty: float
) -> None:
    ours, theirs = pair
    for seed in range(6):
        prompt = torch.randint(31, (1, 3 + seed), generator=torch.Generator().manual_seed(seed))
        config = SamplingConfig(
            max_new_tokens=20, temperature=0, beams=beams, length_penalty=length_penalty,
            stop_tokens=(STOP,), logit_bias=((STOP, BIAS),),
            repetition_penalty=1.1 if seed % 2 else 1.0, no_repeat_ngram=3 if seed > 3 else None,
        )  # fmt: skip
        wanted = theirs.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=20, do_sample=False,
            num_beams=beams, num_return_sequences=beams, length_penalty=length_penalty,
            eos_token_id=STOP, pad_token_id=PAD, return_dict_in_generate=True, output_scores=True,
            sequence_bias={(STOP,): BIAS}, repetition_penalty=config.repetition_penalty,
            no_repeat_ngram_size=config.no_repeat_ngram or 0,
        )  # fmt: skip
        found = beam_search(ours, prompt[0].tolist(), config)
        texts = [row[prompt.size(1) :].tolist() for row in wanted.sequences]
        padded = [[*beam.tokens, *[PAD] * 20][: len(texts[0])] for beam in found]
        assert padded == texts
        scores = torch.tensor([beam.score(config) for beam in found])
        # sums of 20 log-probabilities in fp32
        torch.testing.assert_close(scores, wanted.sequences_scores, rtol=1e-5, atol=1e-4)


def test_texts_end_at_a_stop_token_or_at_the_greatest_length(
    pair: tuple[GPT2Model, nn.Module],
) -> None:
    ends = set()
    for first in range(12):
        for beam in beam_search(pair[0], [first], FOUR):
            ends.add(beam.tokens[-1] == STOP)
            assert STOP not in beam.tokens[:-1]
            assert len(beam.tokens) == 9 or beam.tokens[-1] == STOP
    assert ends == {True, False}, "both kinds of ends have to be seen"


def test_generate_gives_the_best_text_and_its_own_log_probabilities(
    pair: tuple[GPT2Model, nn.Module],
) -> None:
    rows = [RowState(prompt=[3, 5], seed=1, rank=rank) for rank in range(4)]
    for _ in generate_rows(pair[0], rows, FOUR):
        pass
    beams = beam_search(pair[0], [3, 5], FOUR)
    for row, beam in zip(rows, beams, strict=True):
        assert row.tokens == [token for token in beam.tokens if token != STOP]
        assert row.reason == ("stop_token" if STOP in beam.tokens else "length")
        logits = pair[0](torch.tensor([[3, 5, *beam.tokens]]))[0, 1:-1]
        own = logits.log_softmax(dim=-1).gather(-1, torch.tensor([[t] for t in beam.tokens]))
        torch.testing.assert_close(torch.tensor(beam.log_probabilities), own[:, 0].detach())
    assert generate(pair[0], [[3, 5]], FOUR) == [rows[0].tokens]


def test_one_path_of_the_whole_vocabulary_is_an_exhaustive_search(
    pair: tuple[GPT2Model, nn.Module],
) -> None:
    config = SamplingConfig(max_new_tokens=2, temperature=0, beams=31, length_penalty=0.0)
    best = beam_search(pair[0], [1], config)[0]
    texts = torch.cartesian_prod(torch.arange(31), torch.arange(31))
    likely = pair[0](torch.cat([torch.ones(961, 1, dtype=torch.long), texts], dim=1))
    likely = likely.log_softmax(dim=-1)[:, :2].gather(-1, texts.unsqueeze(-1)).sum(dim=(1, 2))
    assert list(best.tokens) == texts[likely.argmax()].tolist()
    assert best.total == pytest.approx(float(likely.detach().max()), rel=1e-5)


def test_few_paths_at_first_fork_into_many(pair: tuple[GPT2Model, nn.Module]) -> None:
    """The prompt forbids all but two tokens at the first step; there are five paths later."""
    config = SamplingConfig(
        max_new_tokens=3, temperature=0, beams=5, no_repeat_ngram=2, length_penalty=0.0
    )
    prompt = [token for other in range(29) for token in (30, other)] + [30]
    found = beam_search(pair[0], prompt, config)
    assert len(found) == 5
    assert {beam.tokens[0] for beam in found} <= {29, 30}
    for beam in found:
        total, text = 0.0, list(prompt)
        for token in beam.tokens:
            window = text[window_start(len(text), 48) :]
            likely = pair[0](torch.tensor([window]))[0, -1].log_softmax(-1).detach()
            total += float(likely[token])
            text.append(token)
        assert beam.total == pytest.approx(total, rel=1e-4)
    assert len(beam_search(pair[0], [1], replace(config, beams=40))) == 40


@torch.no_grad()
def test_beams_go_on_past_the_context(pair: tuple[GPT2Model, nn.Module]) -> None:
    config = SamplingConfig(max_new_tokens=80, temperature=0, beams=2)
    (beam, _) = beam_search(pair[0], list(range(20)), config)
    text, total = [*range(20), *beam.tokens], 0.0
    for end in range(20, 100):
        window = text[window_start(end, 48) : end]
        total += float(pair[0](torch.tensor([window]))[0, -1].log_softmax(-1)[text[end]])
    assert beam.total == pytest.approx(total, rel=1e-4)
