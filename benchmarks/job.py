"""The messages between the command and its worker processes, one line of JSON each.

    command -> worker   a Job, then requests: prepare, round, round, ..., profile
    worker -> command   Ready, Round, Round, ..., Profile
Previous: peers.py.  Next: interleaved.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from cfg_gpt2 import GPT2Config

Target = Literal[
    "training", "finetuning", "scaling", "decoding", "tokenizing", "loading", "roofline"
]  # fmt: skip
Precision = Literal["auto", "fp32", "bf16", "int8"]  # int8: of the weights, in decoding
Device = Literal["auto", "cpu", "cuda", "mps"]
ROUND_SECONDS = 4.0  # the length of a round where --steps does not set it


@dataclass(frozen=True, kw_only=True)
class Job:
    """The work of one candidate: the implementation, the sizes, and how often to repeat it."""

    target: Target
    name: str  # its row in the table
    candidate: Annotated[str, Field(serialization_alias="contender")]  # ours, nanogpt, book, ...
    group: str = ""  # rows are compared within their group
    x: float = 0.0  # scaling: the size that grows in its series
    precision: Precision = "auto"
    compiled: bool = False
    folder: str = ""  # the checkout of a peer that is no package
    device: Device = "auto"
    model: GPT2Config = field(default_factory=GPT2Config)
    batch_size: int = 4
    prompt_length: int = 32  # decoding: tokens of each prompt
    new_tokens: int = 128  # decoding: tokens to generate
    text: str = ""  # tokenizing: the file with the text
    vocabulary: str = ""  # tokenizing: the folder with tokenizer.json
    scratch: str = ""  # a temporary folder
    steps: int | None = None  # per round; None: as many as take ROUND_SECONDS
    warmup: int = 2  # steps before the first round that do not count


@dataclass(frozen=True)
class Candidate:
    """An implementation that is ready to do the work of a job."""

    step: Callable[[], int]  # does the work once and returns the number of tokens or bytes
    precision: str = ""  # of the matmuls: fp32, bf16 or int8
    note: str = ""  # what a reader should know, such as a version


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The answer to `prepare`, after the warm-up."""

    build_seconds: float  # imports and initial weights
    warmup_seconds: float  # the warm-up steps, compiling included
    steps: int  # in each round
    precision: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Round:
    """The answer to `round`: the work done, its time, and the memory it took."""

    units: int  # tokens or bytes
    seconds: float
    memory: int  # the peak so far in bytes; 0 where the system does not report it

    @property
    def rate(self) -> float:
        """The speed of the round, in tokens or bytes per second."""
        return self.units / self.seconds


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The answer to `profile`: where the time goes."""

    shares: dict[str, float]  # kind of operator -> its share of the time; they add up to 1
    table: str  # the operators, sorted by time
