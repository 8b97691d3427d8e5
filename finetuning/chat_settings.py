"""ChatCommand: the settings of `chat`, made from its flags before torch is imported.

Previous: chat.py.  Next: chat_command.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from commands.flags import parse_flags
from decoding.settings import Repeated, SamplingConfig


@dataclass(frozen=True, kw_only=True)
class ChatCommand:
    """Talk with a model that was finetuned for chat. /help lists what a dialogue understands.

    Without a terminal each line of the standard input is a message, and answers are all that the
    standard output gets.
    """

    run: tyro.conf.Positional[Path]  # a run directory that finetune has written
    best: bool = False  # the weights with the lowest validation loss, not the newest
    message: Repeated[tuple[str, ...]] = ()
    """ask this and end, instead of reading messages; may be given again, for the next turn"""
    system: str | None = None  # the system message; None: the run's own; empty: none
    json: bool = False
    """a line of JSON for each answer: answer, finish_reason (stop or length), its tokens, and the
    log_probability of all of them in nats"""
    colour: bool = False  # on a terminal, unlikely tokens in green, yellow, orange, the rarest red
    max_new_tokens: int | None = None
    """tokens of an answer at most, for which older turns leave the context in time; None: as many
    as the context holds"""
    temperature: float = 0.7  # 0: always the most likely token; 1: as the model says
    top_p: float | None = 0.9  # draw among the most likely that together hold this probability
    top_k: int | None = None  # draw among the k most likely tokens only
    repetition_penalty: float = 1.0  # above 1: tokens of the dialogue become less likely
    seed: int = 1  # the same seed and the same messages give the same answers
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    """of the weights; int8: a quarter of the bytes, at a cost that main.py quantize tells."""
    native: Literal["auto", "on", "off"] = "auto"
    """the decode step in C++, compiled once for this machine; auto takes it for models of 10 M
    parameters and more, on a CPU, where there is a compiler."""

    def __post_init__(self) -> None:
        self.sampling(context_length=1)  # raises ValueError for a flag that is out of range

    def sampling(self, context_length: int) -> SamplingConfig:
        """Returns how answers are drawn by a model with this context."""
        limit = context_length if self.max_new_tokens is None else self.max_new_tokens
        return SamplingConfig(
            max_new_tokens=limit,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
        )


def read_chat_command(arguments: list[str]) -> ChatCommand:
    """Returns the settings of `chat`. Raises ValueError where flags are wrong."""
    return parse_flags(ChatCommand, "chat", arguments)
