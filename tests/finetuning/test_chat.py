"""chat.py: what a dialogue reads, what leaves it, and that the cache changes no answer."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cfg_gpt2 import GPT2Config
from decoding.engine import complete
from decoding.settings import SamplingConfig
from finetuning.chat import Answer, Chat
from finetuning.chat_format import Message, encode_prompt, text_of
from gpt2 import GPT2Model
from multiheadattention import KVCache
from tokenizer import END_OF_TEXT, Tokenizer

CONTEXT = 176
TEXT = "Где Макс? In the hall. Макс взял корзинку 🦊 <|user|>\n <|assistant|>\n <|system|>\n"
GREEDY = SamplingConfig(temperature=0, max_new_tokens=9)
DRAWN = SamplingConfig(temperature=0.9, top_p=0.9, max_new_tokens=9, seed=4)
NEVER = float("-inf")


@pytest.fixture(scope="module")
def letters() -> Tokenizer:
    """A tokenizer by which every text is encoded in one way only: a token is a character."""
    return Tokenizer.characters([TEXT])


@pytest.fixture(scope="module")
def pieces() -> Tokenizer:
    return Tokenizer.train([TEXT * 20], 320)


def random_model(tokenizer: Tokenizer, context_length: int = CONTEXT) -> GPT2Model:
    torch.manual_seed(3)
    sizes = GPT2Config(
        vocab_size=tokenizer.vocab_size, context_length=context_length, n_layer=2, n_head=2,
        n_embd=24,
    )  # fmt: skip
    model = GPT2Model(sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6)  # else all tokens are about as likely
    return model


def answered(chat: Chat, text: str) -> Answer:
    answer = chat.ask(text)
    for _ in chat.write(answer):
        pass
    chat.keep(answer)
    return answer


@contextmanager
def positions_read(model: GPT2Model) -> Iterator[list[int]]:
    """Counts the positions of each call of the model."""
    counts: list[int] = []
    plain = model.hidden_states

    def counted(tokens: Tensor, cache: list[KVCache] | None = None) -> Tensor:
        counts.append(tokens.numel())
        return plain(tokens, cache)

    with patch.object(model, "hidden_states", counted):
        yield counts


def without_white_space(tokenizer: Tokenizer, config: SamplingConfig) -> SamplingConfig:
    """Returns settings by which an answer has no end, and none of what a message is trimmed of."""
    banned = [tokenizer.end_of_text, *tokenizer.encode(" \n")]
    return replace(config, logit_bias=tuple((id, NEVER) for id in banned))


def test_a_turn_reads_its_new_tokens_and_no_other(letters: Tokenizer) -> None:
    model = random_model(letters)
    chat = Chat(model, letters, without_white_space(letters, GREEDY), system="In the hall.")
    n_read = 0
    for question in ("Где Макс?", "Макс взял?", "In?"):
        with positions_read(model) as counts:
            answer = answered(chat, question)
        prompt = answer.row.prompt
        # the last token of an answer is read at the beginning of the next turn
        assert counts == [len(prompt) - n_read, *[1] * 8]
        n_read = len(prompt) + 8
    assert n_read > 4 * counts[0]


def test_a_turn_encodes_its_new_messages_and_no_other(pieces: Tokenizer) -> None:
    chat = Chat(random_model(pieces), pieces, GREEDY, system="Макс")
    plain, encoded = pieces.encode_batch, list[str]()

    def counted(texts: list[str]) -> list[list[int]]:
        encoded.extend(texts[1:])  # behind the mark of a role
        return plain(texts)

    questions = [f"Где {name}?" for name in "абвг"]
    with patch.object(pieces, "encode_batch", counted):
        answers = [answered(chat, question).row.text.strip() for question in questions]
    assert all(answers) and chat.n_left == 0
    assert sorted(encoded) == sorted({"Макс", *questions, *answers[:-1]})


@pytest.mark.parametrize("config", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_answers_are_what_generate_writes_after_the_whole_prompt(
    config: SamplingConfig, pieces: Tokenizer
) -> None:
    model = random_model(pieces)
    chat = Chat(model, pieces, config, system="Макс")
    stops = (pieces.end_of_text,)
    for number, question in enumerate(["Где Макс?", "In the hall? 🦊", "the", "Макс взял?"]):
        messages = [Message("system", "Макс"), *chat.messages, Message("user", question)]
        whole = replace(config, seed=config.seed + number, stop_tokens=stops)
        [row] = complete(model, [encode_prompt(messages, pieces)], whole, pieces)
        answer = answered(chat, question)
        assert answer.row.prompt == row.prompt
        assert (answer.row.tokens, answer.row.text) == (row.tokens, row.text)
        assert answer.row.reason == row.reason
        assert answer.n_left == 0


def test_the_log_probability_is_the_models_own_with_the_end(pieces: Tokenizer) -> None:
    model = random_model(pieces)
    biases = [((pieces.end_of_text, bias),) for bias in (0.0, 8.0, 12.0, 16.0)]
    chats = [Chat(model, pieces, replace(DRAWN, logit_bias=bias)) for bias in biases]
    found = [answered(chat, "Где Макс?") for chat in chats for _ in range(3)]
    assert {answer.finish_reason for answer in found} == {"stop", "length"}
    for answer in found:
        end = [pieces.end_of_text] if answer.finish_reason == "stop" else []
        text = answer.row.prompt + answer.row.tokens + end
        with torch.no_grad():
            values = model(torch.tensor([text]))[0].log_softmax(dim=-1)
        n = len(answer.row.prompt)
        own = sum(float(values[i - 1, text[i]]) for i in range(n, len(text)))
        assert answer.log_probability == pytest.approx(own, abs=1e-3)


def test_the_oldest_turns_leave_whole_and_the_system_message_stays(letters: Tokenizer) -> None:
    model = random_model(letters)
    chat = Chat(model, letters, without_white_space(letters, GREEDY), system="Макс")
    questions = [f"Где {'a' * n}?" for n in (0, 3, 5, 2)]
    while not (answer := answered(chat, questions[len(chat.messages) % 4])).n_left:
        pass
    assert answer.n_left % 2 == 0 and chat.n_left == answer.n_left
    left, kept = chat.messages[: answer.n_left], chat.messages[answer.n_left : -2]
    assert left and all(message.role == "user" for message in left[::2])
    seen = text_of([*chat.system, *kept, answer.question], END_OF_TEXT, asks=True)
    assert letters.decode(answer.row.prompt) == seen
    assert len(answer.row.prompt) <= CONTEXT // 2
    with positions_read(model) as counts:
        assert answered(chat, "In?").n_left == 0
    assert max(counts) < 60, "after that a turn reads its new tokens again"


def test_positions_that_are_reserved_make_turns_leave_before_the_answer(letters: Tokenizer) -> None:
    model, config = random_model(letters), without_white_space(letters, GREEDY)
    eager = Chat(model, letters, config, n_reserved=100)
    lazy = Chat(model, letters, config)
    for chat in (eager, lazy):
        answered(chat, "Где Макс?")
        answered(chat, "Где Макс?")
    assert (eager.n_left, lazy.n_left) == (2, 0)


def test_turns_leave_in_the_middle_of_an_answer_which_goes_on(letters: Tokenizer) -> None:
    chat = Chat(random_model(letters), letters, without_white_space(letters, GREEDY))
    answered(chat, "Макс взял")
    chat.sampling = replace(chat.sampling, max_new_tokens=10**6)
    answer = chat.ask("In the hall.")
    assert answer.n_left == 0
    alone = encode_prompt([answer.question], letters)
    for _ in chat.write(answer):
        assert len(answer.row.prompt) + len(answer.row.tokens) <= CONTEXT
    assert answer.n_left == 2 and answer.row.prompt == alone
    assert answer.finish_reason == "length"
    assert len(answer.row.tokens) == CONTEXT - len(alone)


def test_a_message_that_is_too_long_is_refused_with_its_size_and_a_size_that_fits(
    pieces: Tokenizer,
) -> None:
    model = random_model(pieces)
    story = "Макс взял корзинку. " * 90
    for system, words in (("", "the marks of roles"), ("Макс", "the system message and the marks")):
        chat = Chat(model, pieces, GREEDY, system=system)
        answered(chat, "Где Макс?")
        with pytest.raises(ValueError, match=words) as raised:
            chat.ask(story)
        said = str(raised.value)
        n_tokens = len(pieces.encode(story.strip()))
        assert said.startswith(f"this message has {n_tokens} tokens, and the model reads 176 at on")
        n_words = int(said.partition("shorten it to about ")[2].removesuffix(" words"))
        assert n_words > 9
        chat.ask(" ".join(story.split()[:n_words]))
        with pytest.raises(ValueError, match=r"shorten it to about \d+ characters"):
            chat.ask("а" * 1000)
    chat.set_system(story)
    with pytest.raises(ValueError, match=r"take \d+ tokens, and .*; shorten the system message"):
        chat.ask("Где?")
    with pytest.raises(ValueError, match="take a model with a longer context"):
        Chat(random_model(pieces, 8), pieces, GREEDY).ask("Где?")
    with pytest.raises(ValueError, match="the user's message is empty"):
        chat.ask(" \n")


def test_the_longest_message_that_fits_gets_an_answer_of_a_token(letters: Tokenizer) -> None:
    chat = Chat(random_model(letters), letters, without_white_space(letters, GREEDY))
    marks = len(encode_prompt([Message("user", "a")], letters)) - 1
    answer = answered(chat, "a" * (CONTEXT - marks - 1))
    assert (len(answer.row.tokens), answer.finish_reason) == (1, "length")
    with pytest.raises(ValueError, match=f"this message has {CONTEXT - marks} tokens"):
        chat.ask("a" * (CONTEXT - marks))


def test_an_answer_ends_at_the_end_of_text_or_at_another_end(pieces: Tokenizer) -> None:
    model = random_model(pieces)
    for end in (pieces.end_of_text, 7):
        config = replace(GREEDY, logit_bias=((end, 1e6),), stop_tokens=(7,))
        chat = Chat(model, pieces, config)
        answer = answered(chat, "Где Макс?")
        assert answer.finish_reason == "stop" and answer.row.stopped_by == end
        assert answer.row.text == "" and chat.messages == [] and chat.undo() is None


OPERATIONS = ("ask", "undo", "regenerate", "clear", "system", "interrupt")


@settings(max_examples=15, deadline=None)
@given(names=st.lists(st.sampled_from(OPERATIONS), max_size=12))
def test_after_any_commands_an_answer_is_that_of_a_dialogue_begun_anew(
    pieces: Tokenizer, names: list[str]
) -> None:
    model = random_model(pieces)
    chat = Chat(model, pieces, GREEDY)
    for number, name in enumerate(names):
        if name == "ask":
            answered(chat, "Где Макс?" + "!" * number)
        elif name == "undo":
            chat.undo()
        elif name == "regenerate" and (question := chat.undo()):
            answered(chat, question)
        elif name == "clear":
            chat.clear()
        elif name == "system":
            chat.set_system("In" * (number % 3))
        elif name == "interrupt":
            chat.keep(interrupted(chat, "Макс?"))
    fresh = Chat(model, pieces, GREEDY)
    fresh.system, fresh.messages, fresh.n_left = chat.system, list(chat.messages), chat.n_left
    assert answered(chat, "the?").row.tokens == answered(fresh, "the?").row.tokens


def interrupted(chat: Chat, text: str) -> Answer:
    """Returns an answer that Ctrl-C ended in the middle of the model's second pass."""
    answer, calls = chat.ask(text), []

    def strike(*_: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    hook = chat.model.blocks[1].register_forward_hook(strike)
    with suppress(KeyboardInterrupt):  # unless it has ended before
        for _ in chat.write(answer):
            pass
    hook.remove()
    return answer


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_streamed_text_is_the_whole_text_without_half_a_character(
    pieces: Tokenizer, seed: int
) -> None:
    config = replace(DRAWN, temperature=1.0, max_new_tokens=30, seed=seed)
    chat = Chat(random_model(pieces), pieces, config)
    answer, shown = chat.ask("🦊 Где?"), ""
    for _ in chat.write(answer):
        assert answer.row.text.startswith(shown)
        shown = answer.row.text
    whole = pieces.decode(answer.row.tokens)
    assert whole.startswith(shown) and set(whole.removeprefix(shown)) <= {"\ufffd"}


def talk(n_turns: int, tokenizer: Tokenizer) -> None:
    """Talks at context 176, in messages of all lengths, with commands in between."""
    chat = Chat(random_model(tokenizer), tokenizer, replace(DRAWN, max_new_tokens=8), system="Ма")
    generator = torch.Generator().manual_seed(1)
    n_left = 0
    for turn in range(n_turns):
        size = int(torch.randint(1, 60, (1,), generator=generator))
        answer = answered(chat, ("Макс взял корзинку 🦊? " * 9)[:size] + "?")
        n_left += answer.n_left
        assert 0 < len(answer.row.prompt) + len(answer.row.tokens) <= CONTEXT
        assert chat.n_left % 2 == 0 and chat.n_left <= len(chat.messages)
        if turn % 50 == 49:
            chat.undo()
    assert n_left > n_turns, "most turns have left by now"


def test_a_dialogue_goes_on_past_the_context(pieces: Tokenizer) -> None:
    talk(10, pieces)


@pytest.mark.slow
def test_a_dialogue_of_a_thousand_turns(pieces: Tokenizer) -> None:
    talk(1000, pieces)
