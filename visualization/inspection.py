"""Inspection: an opened run, a text, and everything that the model computed while it read it.

Previous: edits.py.  Next: surprise.py.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from rich.console import Console

from cfg_gpt2 import RunConfig
from commands.language import Language
from data.tiny_world.stories import Story
from decoding.settings import SamplingConfig
from gpt2 import GPT2Model
from run_directory.printable import printable
from tokenizer import Tokenizer
from visualization.capture import Trace

Shown = TypeVar("Shown")
Report = Callable[[int, int], None]  # is called with what is done and what there is in all
Spoken = dict[Language, str]  # a text in each language of the page, which a reader may switch


@dataclass(frozen=True)
class TokenText:
    """What a token stands for: its text or, where it is no whole characters, its bytes in hex."""

    text: str
    bytes: str | None = None


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What every view is made from. Its trace has a batch of one."""

    run: Path
    config: RunConfig
    model: GPT2Model
    tokenizer: Tokenizer
    trace: Trace
    language: Language  # of the page
    story_number: int | None = None  # of the validation stories
    story: Story | None = None  # None: the text is a prompt
    n_cut: int = 0  # tokens of the text beyond the model's context
    step: int | None = None  # of the weights, where it is known
    layers: tuple[int, ...] = ()  # whose attention is shown
    heads: tuple[int, ...] = ()  # the same of heads
    position: int = -1  # of which one token's attention and attribution are printed; -1: the last
    top: int = 10  # alternatives of each token
    sampling: SamplingConfig = field(default_factory=SamplingConfig)  # how they are drawn
    limit_bytes: int | None = None  # of the file; None: unlimited
    report: Report = lambda done, total: None  # is told how far a view has come that takes long

    @cached_property
    def tokens(self) -> list[int]:
        """The ids that the model has read."""
        return self.trace.tokens[0].tolist()

    @property
    def world(self) -> Language | None:
        """The language of the built-in world that the run was trained on; None: another text."""
        worlds: dict[str, Language] = {"tiny-world": "en", "tiny-world-ru": "ru"}
        return worlds.get(self.config.data.path[0])

    def text_of(self, id: int) -> TokenText:
        """Returns what a token stands for; an id without a token, in a padded model, is "#id"."""
        try:
            data = self.tokenizer.token_bytes(id)
        except ValueError:
            return TokenText(f"#{id}")
        text = data.decode(errors="replace")
        # GPT-2's vocabulary has the replacement character itself as a token, which misleads as well
        return TokenText("", data.hex()) if "\ufffd" in text else TokenText(text)

    def shown(self, id: int) -> str:
        """Returns a token as a terminal shows it: in quotes, or its bytes as <d0>."""
        token = self.text_of(id)
        return f"<{token.bytes}>" if token.bytes else f'"{one_line(token.text)}"'


def one_line(text: str) -> str:
    """Returns a text with visible escapes for line ends and tabs too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


@dataclass(frozen=True)
class View(Generic[Shown]):
    """A view: how it is computed and printed. pictures.py says how some of them are drawn.

    What `build` returns is a dataclass, whose fields are the names in the JSON of the page, or None
    where the view does not apply.
    """

    build: Callable[[Inspection], Shown | None]
    show: Callable[[Console, Inspection, Shown], None]
    summary: Callable[[Inspection, Shown], str] | None = None  # a line for the terminal
    ids: Callable[[Shown], Iterable[int]] | None = None  # the tokens that it names, for their texts
    is_default: bool = True  # whether it is built where no --view names it
