"""InspectCommand: the settings of `inspect`, made from its flags before torch is imported.

Previous: ../main.py.  Next: views.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from cfg_gpt2 import MAX_SIZE, require, require_count, require_range
from commands.flags import parse_flags
from commands.language import Language
from decoding.settings import SamplingConfig
from visualization.views import VIEWS

Format = Literal["html", "png", "svg", "json"]


@dataclass(frozen=True, kw_only=True)
class InspectCommand:
    """Look inside a trained model while it reads a text: a page that needs no network."""

    run: tyro.conf.Positional[Path]  # a run directory, such as runs/tiny-world
    prompt: str | None = None  # the text to read; empty: a new document; -: standard input
    story: int | None = None
    """read this validation story of the built-in world that the run was trained on; 0 where no
    text is named"""
    view: tuple[str, ...] = ()
    """print these views in the terminal; a file is then written where --format or --out asks for
    it, with these views alone"""
    format: Format | None = None
    """html: the page; png or svg: pictures; json: all numbers. None: html, or what --out ends in"""
    out: Path | None = None  # the file; None: xray.html in RUN, or .png, .svg, .json
    best: bool = False  # the weights with the lowest validation loss, not the newest
    checkpoint: int | None = None  # the weights of this step, of a checkpoint or a snapshot
    language: Language | None = None  # of the page; None: as LC_ALL, LC_MESSAGES or LANG say
    layers: tuple[int, ...] | None = None  # attention of these layers only, from 0; None: all
    heads: tuple[int, ...] | None = None  # attention of these heads only, from 0; None: all
    position: int | None = None
    """the token, from 0, of which --view attention and attribution are printed and drawn: where it
    looks, and what speaks for the token behind it; None: the last one"""
    special_tokens: bool = False  # read <|endoftext|> and the like in --prompt as one token each
    top: int = 10  # alternatives that are listed for each token
    temperature: float = 0.8  # of the alternatives as `generate` draws them, beside the raw ones
    top_p: float | None = 0.95  # the same
    limit_mb: int = 20
    """the largest page; of a long text's attention the largest weights of each row are kept then"""

    def __post_init__(self) -> None:
        require(
            self.prompt is None or self.story is None,
            "--prompt and --story exclude each other; choose one text",
        )
        require(
            not (self.best and self.checkpoint is not None),
            "--best and --checkpoint exclude each other; choose one",
        )
        if self.story is not None:
            require_range("--story", self.story, 0, 10**6)
        if self.position is not None:
            require_range("--position", self.position, 0, MAX_SIZE)
        for flag, numbers in (("--layers", self.layers), ("--heads", self.heads)):
            require(numbers != (), f"{flag} is followed by nothing; name some, or leave it out")
        unknown = [name for name in self.view if name not in VIEWS]
        require(
            not unknown, f"--view {' '.join(unknown)} is unknown; choose among {', '.join(VIEWS)}"
        )
        require_count("--top", self.top, 1000)
        _ = self.sampling  # whose values are within their limits
        require_count("--limit-mb", self.limit_mb, 10_000)
        require(
            self.format is not None or self.out is None or self.suffix in ("", *FORMATS),
            f"--out {self.out} ends in none of {', '.join(FORMATS)}; end it so, or say --format",
        )

    @property
    def sampling(self) -> SamplingConfig:
        """How the alternatives are drawn. Raises ValueError where it is out of range."""
        return SamplingConfig(temperature=self.temperature, top_p=self.top_p)

    @property
    def suffix(self) -> str:
        """The end of the name of --out without its dot, "" for none."""
        return self.out.suffix.lower().removeprefix(".") if self.out else ""

    @property
    def file_format(self) -> Format:
        """The format of the file: the one asked for, the one --out ends in, or html."""
        if self.format:
            return self.format
        for name in FORMATS:
            if name == self.suffix:
                return name
        return "html"

    @property
    def file(self) -> Path:
        """The file that is written."""
        return self.out or self.run / f"xray.{self.file_format}"

    @property
    def writes(self) -> bool:
        """Whether a file is written: always, but where only --view asks for something."""
        return not self.view or self.format is not None or self.out is not None


FORMATS: tuple[Format, ...] = ("html", "png", "svg", "json")


def read_inspect_command(arguments: list[str]) -> InspectCommand:
    """Returns the settings of `inspect`. Raises ValueError where flags are wrong."""
    return parse_flags(InspectCommand, "inspect", arguments)
