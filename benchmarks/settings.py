"""The flags of each target, and how they become contenders."""

from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.job import Device
from cfg_gpt2 import PRESETS, GPT2Config, preset, require


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """What all targets share."""

    rounds: int = 5  # turns that everyone takes; the table gives the median
    steps: int | None = None  # of work in a round; None: as many as take 4 seconds
    warmup: int = 2  # steps before the first round that do not count; compiling is among them
    device: Device = "auto"
    """auto takes a GPU where there is one."""
    out: Path | None = None  # folder of the result; None: benchmarks/results/DATE-TARGET
    profile: bool = False  # write where the time goes, by operator

    def __post_init__(self) -> None:
        require(self.rounds >= 1, f"--rounds {self.rounds} must be 1 or more; try 5")
        require(
            self.steps is None or self.steps >= 1, f"--steps {self.steps} must be 1 or more; try 2"
        )
        require(self.warmup >= 0, f"--warmup {self.warmup} must not be negative; try 2")


@dataclass(frozen=True, kw_only=True)
class Compared(Measuring):
    """Targets that have peers."""

    peers: str | None = None
    """whom to compare with: transformers, tiktoken, ctranslate2, llama_cpp, nanogpt=FOLDER,
    book=FOLDER, separated by commas, or none; None: the packages that are installed."""


@dataclass(frozen=True, kw_only=True)
class Sizes(Measuring):
    """The model that is measured."""

    preset: str = "gpt2"
    """gpt2 has 124 million parameters; tiny, shakespeare-char, book, gpt2-medium, gpt2-large or
    gpt2-xl."""
    batch_size: int = 4  # texts side by side
    context_length: int = 256  # tokens of each text
    n_layer: int | None = None  # None: the preset's
    n_head: int | None = None  # None: the preset's
    n_embd: int | None = None  # None: the preset's

    def model(self) -> GPT2Config:
        """The preset with these sizes, without dropout. Raises ValueError where they do not fit."""
        require(self.batch_size >= 1, f"--batch-size {self.batch_size} must be 1 or more; try 4")
        base = preset(self.preset).model
        try:
            return replace(
                base,
                dropout=0.0,
                context_length=self.context_length,
                n_layer=base.n_layer if self.n_layer is None else self.n_layer,
                n_head=base.n_head if self.n_head is None else self.n_head,
                n_embd=base.n_embd if self.n_embd is None else self.n_embd,
            )
        except ValueError as error:
            raise ValueError(str(error).replace("--model.", "--")) from None


@dataclass(frozen=True, kw_only=True)
class Training(Sizes, Compared):
    """Tokens a second of a whole training step, against every peer, and the memory it takes."""


@dataclass(frozen=True, kw_only=True)
class Scaling(Sizes):
    """The project alone: cost as batch, context, layers and width grow."""

    rounds: int = 3  # in each point; the table gives the median


@dataclass(frozen=True, kw_only=True)
class Decoding(Sizes, Compared):
    """Tokens a second that are written, one text at a time and several side by side."""

    batch_size: int = 8  # texts side by side, after one alone
    context_length: int = 1024  # room of the model; prompt and new tokens must fit
    prompt_length: int = 32  # tokens to go on from
    new_tokens: int = 128  # tokens to write

    def __post_init__(self) -> None:
        super().__post_init__()
        for flag, value in (("prompt-length", self.prompt_length), ("new-tokens", self.new_tokens)):
            require(value >= 1, f"--{flag} {value} must be 1 or more")
        total = self.prompt_length + self.new_tokens
        require(
            total <= self.context_length,
            f"--prompt-length {self.prompt_length} and --new-tokens {self.new_tokens} are more "
            f"than --context-length {self.context_length}; try --new-tokens "
            f"{max(1, self.context_length - self.prompt_length)}",
        )


@dataclass(frozen=True, kw_only=True)
class Tokenizing(Compared):
    """Megabytes of text a second that become token ids."""

    text: Path | None = None  # a UTF-8 file; None: stories of the built-in tiny world
    vocabulary: Path | None = None  # a folder with GPT-2's; None: a BPE trained on the text
    vocab_size: int = 2048  # of the trained BPE

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.vocab_size >= 257,
            f"--vocab-size {self.vocab_size} must be at least 257: 256 bytes and the end; try 2048",
        )
        if self.text is not None and not self.text.is_file():
            raise FileNotFoundError(f"--text {self.text} does not exist; name a UTF-8 text file")


@dataclass(frozen=True, kw_only=True)
class Loading(Measuring):
    """Tokens a second that are cut out of a token file and put into batches."""

    batch_size: int = 4  # windows in a batch
    context_length: int = 256  # tokens in a window

    def model(self) -> GPT2Config:
        """GPT-2 with this context."""
        for name in ("batch_size", "context_length"):
            value = getattr(self, name)
            require(value >= 1, f"--{name.replace('_', '-')} {value} must be 1 or more")
        return replace(PRESETS["gpt2"], context_length=self.context_length)
