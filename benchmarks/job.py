"""What parent and worker say to each other, one line of JSON at a time.

parent -> worker   a Job, then requests: prepare, round, round, ..., profile
worker -> parent   Ready, Round, Round, ..., Profile
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from cfg_gpt2 import GPT2Config

Target = Literal["training", "scaling", "decoding", "tokenizing", "loading", "limits"]
Precision = Literal["auto", "fp32", "bf16", "int8"]  # int8: of the weights, in decoding
Device = Literal["auto", "cpu", "cuda", "mps"]
ROUND_SECONDS = 4.0  # that a round takes, where --steps does not say


@dataclass(frozen=True, kw_only=True)
class Job:
    """One contender: who does what, how often."""

    target: Target
    name: str  # its row in the table
    contender: str  # ours, nanogpt, book, transformers, ...
    group: str = ""  # rows are compared within their group
    x: float = 0.0  # where a row of a series stands on its axis
    precision: Precision = "auto"
    compiled: bool = False
    folder: str = ""  # of a peer that is no package
    device: Device = "auto"
    model: GPT2Config = field(default_factory=GPT2Config)
    batch_size: int = 4
    prompt_length: int = 32  # decoding: tokens that are there at the start
    new_tokens: int = 128  # decoding: tokens that are written
    text: str = ""  # tokenizing: a file
    vocabulary: str = ""  # tokenizing: a folder with tokenizer.json
    scratch: str = ""  # a folder that is deleted at the end
    steps: int | None = None  # in a round; None: as many as take ROUND_SECONDS
    warmup: int = 2  # steps that are not counted


@dataclass(frozen=True)
class Contender:
    """What a builder makes of a job."""

    step: Callable[[], int]  # does the work once -> tokens or bytes
    precision: str = ""  # of the matrix products: fp32 or bf16
    note: str = ""  # what a reader should know, such as a version


@dataclass(frozen=True, kw_only=True)
class Ready:
    """After the warm-up."""

    build_seconds: float  # imports and initial weights
    warmup_seconds: float  # the steps that do not count, with compiling
    steps: int  # in each round to come
    precision: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Round:
    """After a round."""

    units: int  # tokens or bytes
    seconds: float
    memory: int  # bytes, the most so far; 0 where the system does not say

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.seconds


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Where the time goes."""

    shares: dict[str, float]  # of the operators' own time; they add up to 1
    table: str
