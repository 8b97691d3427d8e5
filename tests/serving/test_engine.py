"""The engine: many requests at once, each as if it were alone."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
import torch

from cfg_gpt2 import GPT2Config
from decoding.engine import complete
from decoding.rows import RowState
from decoding.settings import SamplingConfig
from gpt2 import GPT2Model
from serving.engine import Engine
from serving.tickets import Piece, Ticket
from tokenizer import Tokenizer

CONTEXT = 48
SECONDS = 60  # that a test waits, at most, for a text that takes milliseconds


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["the cat sat on the mat; the dog sat on the log"], vocab_size=280)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> GPT2Model:
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size, context_length=CONTEXT, n_layer=2, n_head=2, n_embd=32
    )
    model = GPT2Model(config).eval()
    with torch.no_grad():  # sharper than N(0, 0.02), so that the choices depend on the text
        for parameter in model.parameters():
            parameter.mul_(6)
    return model


@pytest.fixture
def engine(model: GPT2Model, tokenizer: Tokenizer) -> Iterator[Engine]:
    engine = Engine(model, tokenizer, slots=4, max_waiting=40)
    engine.start()
    yield engine
    engine.stop(seconds=0)


@dataclass
class Answer:
    """Collects the pieces of a text; on_piece may do something beside."""

    pieces: list[Piece] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    beside: Callable[[Piece], None] = lambda piece: None

    def __call__(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self.beside(piece)
        if piece.finish_reason:
            self.ended.set()

    def wait(self) -> list[Piece]:
        assert self.ended.wait(SECONDS)
        return self.pieces

    @property
    def tokens(self) -> list[int | None]:
        return [piece.token for piece in self.wait()]

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.wait())


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
        (random_prompt(i, 1 + 7 * i % CONTEXT), replace(SETTINGS[i % len(SETTINGS)], seed=i))
        for i in range(30)
    ]
    answers = [Answer() for _ in requests]
    tickets: list[Ticket] = []
    for number, ((prompt, config), answer) in enumerate(zip(requests, answers, strict=True)):
        if number % 6 == 5:  # somebody goes away in the middle
            answer.beside = lambda piece, n=number: (
                tickets[n].cancel() if n < len(tickets) else None
            )
        tickets.append(engine.submit(prompt, config, answer))
    for number, ((prompt, config), answer) in enumerate(zip(requests, answers, strict=True)):
        pieces, row = answer.wait(), alone(model, tokenizer, prompt, config)
        if pieces[-1].finish_reason == "cancelled":
            assert number % 6 == 5
            pieces.pop()
            assert answer.tokens == row.tokens[: len(pieces)]
            continue
        assert answer.tokens == row.tokens
        assert answer.text == row.text
        assert [piece.log_probability for piece in pieces] == pytest.approx(
            row.log_probabilities, abs=1e-4
        )
