"""The engine: many requests at once, each as if it were alone."""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from oracles.answer import SECONDS, Answer
from oracles.random_model import random_model

import main
from cfg_gpt2 import GPT2Config
from decoding.engine import complete
from decoding.rows import RowState
from decoding.settings import SamplingConfig
from gpt2 import GPT2Model
from serving.engine import Engine
from serving.runs import ServedRun
from serving.scoring import Scores, Scoring
from serving.tickets import Piece, QueueFull, ShuttingDown, Ticket
from tokenizer import Tokenizer

CONTEXT = 48


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["the cat sat on the mat; the dog sat on the log"], vocab_size=280)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> GPT2Model:
    sizes = GPT2Config(
        vocab_size=tokenizer.vocab_size, context_length=CONTEXT, n_layer=2, n_head=2, n_embd=32
    )
    return random_model(sizes, std=0.12, seed=3)


@pytest.fixture
def engine(model: GPT2Model, tokenizer: Tokenizer) -> Iterator[Engine]:
    """An engine that is not started: what is asked of it before `start` comes at once."""
    engine = Engine(model, tokenizer, slots=4, max_waiting=40)
    yield engine
    if engine.thread.is_alive():
        engine.stop(seconds=0)


@contextmanager
def counted(model: GPT2Model) -> Iterator[list[int]]:
    """Collects how many tokens each pass of the model reads."""
    counts: list[int] = []
    hook = model.blocks[0].register_forward_hook(
        lambda block, args, output: counts.append(output.shape[0] * output.shape[1])
    )
    yield counts
    hook.remove()


def random_prompt(seed: int, length: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(260, (length,), generator=generator).tolist()


def alone(
    model: GPT2Model, tokenizer: Tokenizer, prompt: list[int], config: SamplingConfig
) -> RowState:
    (row,) = complete(model, [prompt], config, tokenizer)
    return row


SETTINGS = (
    SamplingConfig(max_new_tokens=20, temperature=0),
    SamplingConfig(max_new_tokens=30, temperature=1.0),
    SamplingConfig(max_new_tokens=60, temperature=0.8, top_p=0.9),  # its window moves on
    SamplingConfig(max_new_tokens=12, temperature=1.2, top_k=20, presence_penalty=0.5),
    SamplingConfig(
        max_new_tokens=25, temperature=1.0, repetition_penalty=1.2, logit_bias=((65, 3.0),)
    ),
)


def test_every_text_is_that_of_generate_whoever_else_is_served(
    engine: Engine, model: GPT2Model, tokenizer: Tokenizer
) -> None:
    requests = [
        (random_prompt(i % 25, 1 + 7 * i % CONTEXT), replace(SETTINGS[i % 5], seed=i))
        for i in range(24)
    ]
    answers = [Answer() for _ in requests]
    tickets: list[Ticket] = []
    engine.start()
    for number, ((prompt, config), answer) in enumerate(zip(requests, answers, strict=True)):
        if number % 6 == 5:  # somebody goes away at the fourth token
            answer.beside = lambda piece, n=number: (
                tickets[n].cancel() if len(answers[n].pieces) == 4 else None
            )
        tickets.append(engine.submit(prompt, config, answer))
    for number, ((prompt, config), answer) in enumerate(zip(requests, answers, strict=True)):
        pieces, row = answer.wait(), alone(model, tokenizer, prompt, config)
        wanted = row.tokens[:4] if number % 6 == 5 else row.tokens
        values = [piece.log_probability for piece in pieces][: len(wanted)]
        assert answer.tokens == (wanted if number % 6 < 5 else [*wanted, None])
        assert values == pytest.approx(row.log_probabilities[: len(wanted)], abs=1e-4)
        if number % 6 < 5:
            assert (answer.text, pieces[-1].finish_reason) == (row.text, "length")
        else:
            assert pieces[-1].finish_reason == "cancelled"
    assert engine.n_running == engine.n_waiting == 0


def test_what_samples_of_one_prompt_share_is_read_once(
    engine: Engine, model: GPT2Model, tokenizer: Tokenizer
) -> None:
    prompt, config = random_prompt(7, 40), SamplingConfig(max_new_tokens=5, temperature=1.0)
    answers = [Answer() for _ in range(4)]
    for seed, answer in enumerate(answers):
        engine.submit(prompt, replace(config, seed=seed), answer)
    with counted(model) as counts:
        engine.start()
        texts = [answer.tokens for answer in answers]
    assert sum(counts) == 39 + 4 * 5  # the prompt but its last token; then a token for each token
    for seed, text in enumerate(texts):
        assert text == alone(model, tokenizer, prompt, replace(config, seed=seed)).tokens


def test_two_dialogues_go_on_from_what_is_cached_of_them(
    engine: Engine, model: GPT2Model, tokenizer: Tokenizer
) -> None:
    config = SamplingConfig(max_new_tokens=3, temperature=1.0)
    engine.start()
    dialogues = [random_prompt(8, 30), random_prompt(9, 25)]
    for prompt in dialogues:  # one after the other, so each could have the first slot
        answer = Answer()
        engine.submit(prompt, config, answer)
        answer.wait()
        prompt += [*alone(model, tokenizer, prompt, config).tokens, 5, 6]
    for prompt in dialogues:
        answer = Answer()
        with counted(model) as counts:
            engine.submit(prompt, config, answer)
            assert answer.tokens == alone(model, tokenizer, prompt, config).tokens
        # the last token of the text before was never read, so it is read with the next one
        assert counts[:2] == [2, 1]


def test_rows_go_on_while_a_long_prompt_is_read_and_it_can_be_cancelled_meanwhile(
    engine: Engine,
) -> None:
    config = SamplingConfig(max_new_tokens=30, temperature=1.0)
    long, n_running = Answer(), []
    tickets: list[Ticket] = []

    def beside(piece: Piece) -> None:
        n_running.append(engine.n_running)
        if len(n_running) == 5:
            tickets.append(engine.submit(random_prompt(2, 48), config, long))
        if len(n_running) == 7:  # two pieces of 8 tokens have been read
            assert engine.slots.n_ready == 1
            assert long.pieces == []
            assert len(engine.slots.cache.tokens[1]) == 16
            tickets[0].cancel()

    first = Answer(beside=beside)
    engine.submit([1, 2, 3], config, first)
    engine.start()
    assert len(first.wait()) == 30
    assert [piece.finish_reason for piece in long.wait()] == ["cancelled"]
    assert n_running == [1] * 5 + [2] * 2 + [1] * 23  # its slot is free at the very next turn


def test_at_most_so_many_wait(model: GPT2Model, tokenizer: Tokenizer) -> None:
    engine = Engine(model, tokenizer, slots=1, max_waiting=2)
    config, answers = SamplingConfig(max_new_tokens=2), [Answer() for _ in range(3)]
    for answer in answers[:2]:
        engine.submit([1], config, answer)
    with pytest.raises(QueueFull, match="2 requests wait"):
        engine.submit([1], config, answers[2])
    engine.start()
    answers[0].wait()  # so that there is room again
    engine.submit([1], config, answers[2])
    assert len(answers[1].wait()) == len(answers[2].wait()) == 2
    engine.stop(SECONDS)


def test_a_stopped_engine_finishes_what_it_has_and_takes_no_more(engine: Engine) -> None:
    answers = [Answer() for _ in range(6)]
    for answer in answers:
        engine.submit([1, 2], SamplingConfig(max_new_tokens=20), answer)
    engine.start()
    engine.stop(SECONDS)
    assert [len(answer.pieces) for answer in answers] == [20] * 6
    with pytest.raises(ShuttingDown):
        engine.submit([1, 2], SamplingConfig(), answers[0])
    with pytest.raises(ShuttingDown):
        engine.score([1, 2])


def test_an_engine_that_gives_up_tells_everyone(engine: Engine) -> None:
    answers = [Answer() for _ in range(6)]  # two of them wait for a slot
    endless = SamplingConfig(max_new_tokens=10**6)
    for answer in answers:
        engine.submit([1, 2], endless, answer)
    scores = engine.score([1, 2, 3])
    answers[0].beside = lambda piece: engine.scorings.append(Scoring([1] * 9, 0))
    engine.start()
    scores.result(SECONDS)
    engine.stop(0)
    assert [answer.pieces[-1].finish_reason for answer in answers] == ["cancelled"] * 6
    assert engine.scorings
    with pytest.raises(ShuttingDown):
        engine.scorings[0].future.result(0)


def test_a_row_without_a_token_to_choose_fails_alone(engine: Engine) -> None:
    only = tuple((token, -float("inf")) for token in range(266) if token != 65)
    config = SamplingConfig(max_new_tokens=1, no_repeat_ngram=1, logit_bias=only)
    fails, works = Answer(), Answer()
    engine.submit([66], config, works)  # with equal settings, so they choose together
    engine.submit([65], config, fails)
    engine.start()
    (piece,) = fails.wait()
    assert piece.finish_reason == "error"
    assert "no token is left" in str(piece.error)
    assert works.tokens == [65]
    assert engine.thread.is_alive()


def test_a_diverged_model_ends_texts_and_scores_with_a_sentence(
    model: GPT2Model, tokenizer: Tokenizer
) -> None:
    diverged, answer = copy.deepcopy(model), Answer()
    torch.nn.init.constant_(diverged.final_norm.weight, float("nan"))
    engine = Engine(diverged, tokenizer)
    engine.submit([1, 2], SamplingConfig(), answer)
    scores = engine.score([1, 2])
    engine.start()
    assert "diverged" in str(answer.wait()[0].error)
    with pytest.raises(ValueError, match="diverged"):
        scores.result(SECONDS)
    engine.stop(SECONDS)


def plain_scores(model: GPT2Model, tokens: list[int]) -> torch.Tensor:
    """(T - 1, V): the log-probabilities after each token but the last, in one pass."""
    with torch.no_grad():
        return model(torch.tensor([tokens]))[0, :-1].log_softmax(dim=-1)


def require_scores(scores: Scores, wanted: torch.Tensor, tokens: list[int]) -> None:
    values, top = scores
    assert values == pytest.approx(wanted[range(len(tokens) - 1), tokens[1:]].tolist(), abs=1e-4)
    for row, best, value, token in zip(wanted, top, values, tokens[1:], strict=True):
        assert [id for id, _ in best] == row.topk(3).indices.tolist()
        # lm-eval compares these two numbers to know whether a token is the most likely one
        assert (value == best[0][1]) == (token == best[0][0])


def test_scores_are_those_of_one_plain_pass(engine: Engine, model: GPT2Model) -> None:
    texts = [random_prompt(seed, length) for seed, length in enumerate((48, 2, 1, 17))]
    texts[3][9] = int(plain_scores(model, texts[3])[8].argmax())  # one that is the most likely
    answer = Answer()
    engine.submit([1], SamplingConfig(max_new_tokens=20), answer)  # beside, in pieces of 8
    futures = [engine.score(text, n_top=3) for text in texts]
    cancelled = engine.score([1, 2, 3])
    assert cancelled.cancel()
    engine.start()
    for text, future in zip(texts, futures, strict=True):
        require_scores(future.result(SECONDS), plain_scores(model, text), text)
    answer.wait()
    engine.stop(SECONDS)
    assert engine.n_waiting == 0


def test_the_top_holds_the_chosen_tokens_own_number(engine: Engine) -> None:
    answer = Answer()
    engine.submit([1, 2, 3], SamplingConfig(max_new_tokens=10, temperature=0), answer, n_top=2)
    engine.start()
    for piece in answer.wait():
        assert piece.top[0] == (piece.token, piece.log_probability)
        assert piece.top[1][1] < piece.log_probability


def test_a_stop_string_is_not_shown_and_a_stop_token_is_the_last_piece(
    engine: Engine, model: GPT2Model, tokenizer: Tokenizer
) -> None:
    plain = SamplingConfig(max_new_tokens=30, temperature=1.0)
    row = alone(model, tokenizer, [1, 2], plain)
    string, token = row.text[8:10], row.tokens[11]
    by_string, by_token = Answer(), Answer()
    engine.submit([1, 2], replace(plain, stop=(string,)), by_string)
    engine.submit([1, 2], replace(plain, stop_tokens=(token,)), by_token)
    engine.start()
    assert by_string.text == row.text[: row.text.index(string)]
    assert by_token.tokens == row.tokens[: row.tokens.index(token) + 1]
    for answer in (by_string, by_token):
        assert [p.finish_reason for p in answer.pieces if p.finish_reason] == ["stop"]


def test_what_cannot_be_served_is_refused_with_a_sentence(engine: Engine) -> None:
    refused = [
        ([], SamplingConfig(), "empty"),
        ([1] * (CONTEXT + 1), SamplingConfig(), "49 tokens.*context_length is 48"),
        ([266], SamplingConfig(), "token id 266"),
        ([1], SamplingConfig(beams=2, temperature=0), "beams are not served"),
    ]
    for prompt, config, sentence in refused:
        with pytest.raises(ValueError, match=sentence):
            engine.submit(prompt, config, Answer())
    with pytest.raises(ValueError, match="context_length"):
        engine.score([1] * (CONTEXT + 1))
    assert engine.n_waiting == 0


def test_a_served_text_is_a_line_of_generate(
    runs: dict[str, ServedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs["small"]
    flags = ("--seed", "5", "--temperature", "0.9", "--max-new-tokens", "80", "--samples", "2")
    assert main.main(["generate", str(run.folder), "--json", "--prompt", "The cat", *flags]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    config = SamplingConfig(
        max_new_tokens=80, temperature=0.9, seed=5, stop_tokens=run.tokens.eos_token_id
    )
    answers = [Answer(), Answer()]
    for i, answer in enumerate(answers):
        seeded = replace(config, seed=5 + i)
        run.engine.submit(run.tokenizer.encode("The cat"), seeded, answer)
    for line, answer in zip(lines, answers, strict=True):
        assert answer.text == line["text"]
        values = [piece.log_probability for piece in answer.pieces][: len(line["tokens"])]
        assert values == pytest.approx(line["log_probabilities"], abs=1e-4)
