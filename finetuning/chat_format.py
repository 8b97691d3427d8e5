"""The chat template: how a dialogue becomes one text, and which of its tokens are learned.

    <|user|>\\n{question}<|endoftext|>\\n
    <|assistant|>\\n{answer}<|endoftext|>\\n      learned: the answer and its <|endoftext|>

Role marks are ordinary letters, so no token is added and no matrix is resized. Each turn is closed
by the end-of-text token, which `Tokenizer.encode` never makes from letters: nobody can forge the
end of a turn. It is the form of Zephyr and StableLM, which other programs render too.
Previous: ../generation.py.  Next: conversations.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cfg_gpt2 import require
from run_directory.chat_template import ROLES
from run_directory.json_file import shortened
from tokenizer import Tokenizer, UnseenCharacter


@dataclass(frozen=True)
class Message:
    """What one side says. Its content has no white space at either end."""

    role: str  # one of ROLES
    content: str
    is_learned: bool = True  # of an assistant's message: whether the model learns to say it

    def __post_init__(self) -> None:
        require(
            self.role in ROLES, f"role {self.role!r} is unknown; choose one of {', '.join(ROLES)}"
        )
        object.__setattr__(self, "content", self.content.strip())
        require(self.content != "", f"the {self.role}'s message is empty; give it a text")


Dialogue = tuple[Message, ...]


class EncodedDialogue(NamedTuple):
    """The tokens of a dialogue, and for each whether the model learns to predict it."""

    tokens: list[int]
    is_learned: list[bool]


def require_turns(messages: Sequence[Message]) -> None:
    """Raises ValueError unless user and assistant take turns, after at most one system message."""
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    for number, (role, expected) in enumerate(
        zip(turns, ("user", "assistant") * len(turns), strict=False),
        start=1 + len(roles) - len(turns),
    ):
        require(
            role == expected,
            f"message {number} is the {role}'s, where the {expected}'s belongs; user and assistant "
            "take turns, after at most one system message",
        )


def text_of(messages: Sequence[Message], end: str, *, asks: bool = False) -> str:
    """Returns messages as the text of the template; `asks` ends it where an answer begins.

    end is the text of the token that closes each turn.
    """
    turns = [f"<|{message.role}|>\n{message.content}{end}\n" for message in messages]
    return "".join(turns) + "<|assistant|>\n" * asks


def encode_dialogue(messages: Sequence[Message], tokenizer: Tokenizer) -> EncodedDialogue:
    """Returns the tokens of a whole dialogue, without the line break after its last turn.

    Raises UnseenCharacter where a tokenizer of characters lacks one of the text's.
    """
    tokens: list[int] = []
    is_learned: list[bool] = []
    for number, message in enumerate(messages):
        lead, content = encode_turn(message, tokenizer, is_first=number == 0)
        learned = message.role == "assistant" and message.is_learned
        tokens += [*lead, *content]
        is_learned += [False] * len(lead) + [learned] * len(content)
    return EncodedDialogue(tokens, is_learned)


def encode_turn(
    message: Message, tokenizer: Tokenizer, *, is_first: bool
) -> tuple[list[int], list[int]]:
    """Returns the tokens of a role's mark, and those of what it says with its end.

    Before every mark but the first of a dialogue stands a line break. Raises UnseenCharacter as
    encode_dialogue does.
    """
    lead = f"<|{message.role}|>\n" if is_first else f"\n<|{message.role}|>\n"
    try:
        mark, content = tokenizer.encode_batch([lead, message.content])
    except UnseenCharacter as error:
        raise error.within(0, shortened(repr(error.text), 60)) from None
    return mark, [*content, tokenizer.end_of_text]


def encode_prompt(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """Returns the tokens of messages up to the place where the assistant's answer begins.

    Raises UnseenCharacter as encode_dialogue does.
    """
    separator = "\n" if messages else ""
    return encode_dialogue(messages, tokenizer).tokens + tokenizer.encode(
        f"{separator}<|assistant|>\n"
    )
