"""A dialogue whose keys and values stay in the cache: a turn reads only what is new in it.

    turn 1   <|user|>\\n{question}<|endoftext|>\\n<|assistant|>\\n                   is read
    answer   {answer}                                              drawn, token by token
    turn 2   <|endoftext|>\\n<|user|>\\n{question}<|endoftext|>\\n<|assistant|>\\n   is read

Before each turn the tokens of the whole dialogue are put together, as they were in training, and
read from the first one on that the cache does not hold at that place. So /undo, another system
message, or an answer that its own text encodes in another way need no rule of their own. Each
message is encoded once.

Positions end with the context. Where a dialogue has reached its end, the oldest pairs of question
and answer leave, whole, until the rest takes half of the room, and that rest is read again once;
the system message stays. That may happen in the middle of an answer.
Previous: best_adapter.py.  Next: chat_settings.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain
from typing import Literal

import torch

from decoding.engine import suppress_unknown_ids
from decoding.rows import RowState
from decoding.sampling import sample_rows
from decoding.settings import SamplingConfig
from decoding.speculative import PrefixCachedModel
from finetuning.chat_format import Message, encode_turn
from gpt2 import GPT2Model
from tokenizer import Tokenizer

SHARE_OF_QUESTION = 0.8  # of the room that a shorter message is advised to take


@dataclass(kw_only=True)
class Answer:
    """What the model says to a question, while it says it."""

    question: Message
    config: SamplingConfig
    row: RowState
    log_probability: float = 0.0  # in nats, of its tokens and of the one that ended it
    n_left: int = 0  # messages that have left the context for it

    @property
    def finish_reason(self) -> Literal["stop", "length"] | None:
        """Why it ended, in the words of OpenAI's API; None: it has not."""
        if self.row.reason is None:
            return None
        return "length" if self.row.reason == "length" else "stop"


class Chat:
    """A dialogue with a model: its messages, how answers are drawn, and what the cache holds."""

    def __init__(
        self,
        model: GPT2Model,
        tokenizer: Tokenizer,
        sampling: SamplingConfig,
        *,
        system: str = "",
        n_reserved: int = 1,
    ) -> None:
        """Begins an empty dialogue.

        Args:
            model: one that was finetuned on the template of chat_format.py.
            tokenizer: the model's.
            sampling: how answers are drawn; answer number i draws with the seed + i. They end
                before sampling.stop_tokens and before the end of text.
            system: the system message; empty: none.
            n_reserved: positions that an answer begins with at least, unless its question alone
                leaves less.
        """
        self.model = model
        self.context_length = model.config.context_length
        self.reader = PrefixCachedModel(model, self.context_length)
        self.tokenizer = tokenizer
        stops = (tokenizer.end_of_text, *sampling.stop_tokens)
        sampling = replace(sampling, stop_tokens=stops)
        sampling.require_ids(model.config.vocab_size)
        self.sampling = suppress_unknown_ids(sampling, model.config.vocab_size, tokenizer)
        self.n_reserved = n_reserved
        self.system: list[Message] = []
        self.messages: list[Message] = []  # questions and answers in turn, those that left too
        self.n_left = 0  # of them, that the model no longer sees
        self.n_answers = 0  # those that were taken back too
        self.encode = cache(partial(encode_turn, tokenizer=tokenizer))  # each message once
        self.set_system(system)

    def set_system(self, text: str) -> None:
        """Replaces the system message; a text without a letter removes it."""
        self.system = [Message("system", text)] if text.strip() else []

    def clear(self) -> None:
        """Forgets all turns; the system message stays."""
        self.messages, self.n_left = [], 0

    def undo(self) -> str | None:
        """Takes the last turn back, and returns its question; None: there is no turn."""
        if not self.messages:
            return None
        *self.messages, question, _ = self.messages
        if self.n_left >= len(self.messages):  # else the model would see nothing of what is left
            self.n_left = 0
        return question.content

    def ask(self, text: str) -> Answer:
        """Returns the answer to a question, still empty: `write` fills it, `keep` adds it.

        Raises ValueError for an empty question, and for one that the context has no room for.
        """
        question = Message("user", text)
        shortest = self.prompt(question, len(self.messages))
        room = self.context_length - len(shortest)  # where all earlier turns leave
        if room < 1:
            raise ValueError(self.too_long(question, len(shortest)))
        config = replace(self.sampling, max_new_tokens=min(self.sampling.max_new_tokens, room))
        row = RowState(prompt=shortest, seed=self.sampling.seed + self.n_answers)
        self.n_answers += 1
        answer = Answer(question=question, config=config, row=row)
        self.make_room(answer, self.n_reserved)
        row.start(config, self.tokenizer, self.model.device)
        return answer

    @torch.inference_mode()
    def write(self, answer: Answer) -> Iterator[None]:
        """Extends an answer until it has ended; yields after each token."""
        row = answer.row
        while not row.is_done:
            if len(row.prompt) + len(row.tokens) >= self.context_length:
                self.make_room(answer, 1)
            logits = self.reader.logits([*row.prompt, *row.tokens], 1)  # (1, V)
            token = int(sample_rows(logits, [row], answer.config))
            log_probability = float(logits.log_softmax(dim=-1)[0, token])
            answer.log_probability += log_probability
            row.add(token, log_probability, answer.config)
            yield

    def keep(self, answer: Answer) -> None:
        """Adds a question and its answer, ended or not, to the dialogue.

        An answer without a letter is no message: it is left out, and so is its question.
        """
        if answer.row.text.strip():
            self.messages += [answer.question, Message("assistant", answer.row.text)]

    def make_room(self, answer: Answer, n_reserved: int) -> None:
        """Renews an answer's prompt, so that n_reserved positions are free behind the answer.

        Where they are not, the oldest turns leave until the prompt takes half of the room.
        """
        room = self.context_length - len(answer.row.tokens) - n_reserved
        prompt = self.prompt(answer.question, self.n_left)
        if len(prompt) > room:
            while len(prompt) > room // 2 and self.n_left < len(self.messages):
                self.n_left += 2
                answer.n_left += 2
                prompt = self.prompt(answer.question, self.n_left)
        answer.row.prompt = prompt

    def prompt(self, question: Message, n_left: int) -> list[int]:
        """Returns the tokens that an answer follows, where n_left messages have left."""
        dialogue = [*self.system, *self.messages[n_left:], question]
        turns = [self.encode(message, is_first=i == 0) for i, message in enumerate(dialogue)]
        asks = self.tokenizer.encode("\n<|assistant|>\n")
        return [*chain.from_iterable(chain.from_iterable(turns)), *asks]

    def too_long(self, question: Message, n_prompt: int) -> str:
        """Returns the sentence about a question whose prompt, of n_prompt tokens, does not fit."""
        text, context = question.content, self.context_length
        n_tokens = len(self.tokenizer.encode(text))
        n_others = n_prompt - n_tokens
        others = "the marks of roles"
        advice = "take a model with a longer context"
        if self.system:
            others, advice = f"the system message and {others}", "shorten the system message"
        room = context - n_others - 1  # an answer takes one position at least
        if room < 1:
            return (
                f"{others} take {n_others} tokens, and the model reads {context} at once; {advice}"
            )
        share = SHARE_OF_QUESTION * room / n_tokens
        n_words, n_characters = int(share * len(text.split())), max(1, int(share * len(text)))
        length = f"{n_words} words" if n_words > 1 else f"{n_characters} characters"
        return (
            f"this message has {n_tokens} tokens, and the model reads {context} at once, "
            f"{n_others} of them for {others}; shorten it to about {length}"
        )
