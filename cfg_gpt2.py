"""Every setting of a run: the model, the data, the training.

The sizes carry GPT-2's own names (Radford et al. 2019, table 2). Throughout the code a
shape is written with these letters:

    B  batch            T  query positions     S  key positions, S >= T with a cache
    C  n_embd           H  n_head              D  head_dim = C / H
    F  4C, inside the feed-forward             V  vocab_size

The model needs GPT2Config alone; the other settings can be looked up where they are used.
Previous: nothing, this is the first file.  Next: gelu.py.
"""

from dataclasses import dataclass, field, replace
from math import inf
from typing import Annotated, Literal

import tyro

MAX_SIZE = 2**24  # of a width, a context, a vocabulary: a matrix's bytes fit into 64 bits
MAX_COUNT = 10**9  # of steps, of windows: so does the product of two


def require(fits: bool, message: str) -> None:
    """Raises ValueError(message) unless the setting fits."""
    if not fits:
        raise ValueError(message)


def require_range(flag: str, value: float, least: float, most: float, advice: str = "") -> None:
    """Raises ValueError unless a number lies in its range; nan lies in none."""
    limits = f"at least {least} and at most {most}"
    require(least <= value <= most, f"{flag} {value} must be {limits}{advice}")


def require_count(flag: str, value: int, most: int = MAX_COUNT, advice: str = "") -> None:
    """Raises ValueError unless a flag's value is a count, from 1 on."""
    require(value >= 1, f"{flag} {value} must be 1 or more{advice}")
    require(value <= most, f"{flag} {value} must be at most {most}{advice}")


def require_each(section: str, settings: object, checks: dict[str, tuple[bool, str]]) -> None:
    """Raises ValueError unless every setting fits: name -> (it fits, what it must be)."""
    for name, (fits, limit) in checks.items():
        flag = f"--{section}.{name.replace('_', '-')}"
        require(fits, f"{flag} {getattr(settings, name)} must {limit}")


@dataclass(frozen=True, kw_only=True)
class GPT2Config:
    """The size of the model. The architecture itself is GPT-2 and has no switch."""

    vocab_size: Annotated[int, tyro.conf.Suppress] = 50257  # set by the tokenizer
    context_length: int = 1024  # the longest sequence the model can look at, in tokens
    n_layer: int = 12  # transformer blocks, one after the other
    n_head: int = 12  # attention heads per block
    n_embd: int = 768  # width of the residual stream
    dropout: float = 0.1  # one rate for embeddings, attention and residuals, as in GPT-2
    bias: bool = True  # biases in the linear layers and norms; GPT-2 has them

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context_length", "n_layer", "n_head", "n_embd"):
            value = getattr(self, name)
            require_range("--model." + name.replace("_", "-"), value, 1, MAX_SIZE)
        nearest = max(1, round(self.n_embd / self.n_head)) * self.n_head
        checks = {
            "n_embd": (
                self.n_embd == nearest,
                f"be a multiple of --model.n-head {self.n_head}; try --model.n-embd {nearest}",
            ),
            "dropout": (0 <= self.dropout < 1, "be at least 0 and below 1; try 0.1"),
        }
        require_each("model", self, checks)

    @property
    def head_dim(self) -> int:
        """The number of channels of one head, D."""
        return self.n_embd // self.n_head


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What the model reads, and how text becomes tokens."""

    path: tuple[str, ...] = ("tiny-world",)
    """tiny-world or tiny-world-ru (built in), or text files, folders and globs; one or several.
    Also one or several folders that main.py prepare has written, for large texts."""
    mix: tuple[float, ...] = ()
    """a weight for each --data.path, such as 0.7 0.3: the share of what is read that comes from
    it; empty: each path in proportion to its length."""
    tokenizer: str = "bpe"
    """bpe (trained on the text), char, or a folder with a ready vocabulary such as GPT-2's."""
    vocab_size: int | None = None  # tokens that the trained bpe may use; None: 2048
    validation_share: float | None = None
    """of the text, kept apart to measure what was learned; None: 0.1, at most 10 MB, and for the
    built-in worlds 0.05, at most 1000 stories."""
    stories: int | None = None  # told by the built-in worlds; None: 40,000
    cache_dir: str = "data/cache"  # where token files are kept for the next run

    def __post_init__(self) -> None:
        require(len(self.path) > 0, "--data.path is empty; name a text file, or tiny-world")
        given = " ".join(map(str, self.mix))
        require(
            len(self.mix) in (0, len(self.path)),
            f"--data.mix {given} has {len(self.mix)} weights, --data.path {len(self.path)} "
            "paths; give a weight for each path",
        )
        require(
            all(0 < weight < inf for weight in self.mix),
            f"--data.mix {given} must be numbers above 0; try 0.7 0.3",
        )
        require(
            self.vocab_size is None or self.tokenizer == "bpe",
            f"--data.vocab-size {self.vocab_size} is for --data.tokenizer bpe; "
            f"leave it out, --data.tokenizer {self.tokenizer} has the size it has",
        )
        size, share = self.vocab_size, self.validation_share
        checks = {
            "vocab_size": (
                size is None or 257 <= size <= MAX_SIZE,
                "be at least 257: 256 bytes and the end-of-text token, and at most "
                f"{MAX_SIZE}; try 2048",
            ),
            "validation_share": (share is None or 0 < share < 1, "lie between 0 and 1; try 0.1"),
        }
        require_each("data", self, checks)
        if self.stories is not None:
            require_range("--data.stories", self.stories, 100, 10**7, "; try 40000")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the weights are found."""

    max_steps: int = 1000  # optimizer steps
    batch_size: int = 32  # windows of context_length tokens per optimizer step
    micro_batch: int | Literal["auto"] | None = None
    """windows per forward pass, to save memory; None: all of them; auto: as many as fit."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon for the matrices of the blocks learns more from each token; adamw is GPT-2's."""
    learning_rate: float = 6e-4  # the highest, reached after the warm-up
    final_learning_rate: float = 6e-5  # the lowest, reached at the last step
    schedule: Literal["cosine", "trapezoid"] = "cosine"
    """cosine falls from the warm-up on; trapezoid stays at the highest, then falls in a line."""
    warmup_steps: int = 100  # the learning rate rises linearly over these
    weight_decay: float = 0.1  # on matrices only, never on biases and norms
    beta1: float = 0.9  # AdamW: memory of the mean gradient
    beta2: float = 0.95  # AdamW: memory of the squared gradient
    grad_clip: float = 1.0  # longest gradient vector let through; 0 lets all through
    eval_every: int = 250
    """steps between evaluations, each over the whole validation split; then the run is saved."""
    keep_checkpoints: int = 2  # the last ones that are kept, and the best one with them
    snapshots: int = 0  # of the weights alone, kept at step 0 and at so many steps on a log scale
    tensorboard: bool = False  # write each metric for TensorBoard as well; needs its package
    max_bad_steps: int = 5
    """steps in a row, without a finite loss and gradient, after which the run goes back to its
    last good checkpoint and on with other text; a step like that is never taken."""
    skip_spikes: float | None = None
    """take no step whose loss lies this many standard deviations above its running mean; 6 is
    far from any healthy batch; None: such steps are noted, and taken."""
    seed: int = 1  # of the weights, the order of the windows and dropout
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto takes a GPU where there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """of the matrix products; auto takes bf16 where the device is faster with it."""
    strategy: Literal["auto", "single", "ddp", "fsdp"] = "auto"
    """for processes that torchrun starts: ddp keeps the model in each, fsdp a share of it; auto
    takes ddp where there are several."""
    activation_checkpointing: bool = False  # compute blocks twice, to save memory
    compile: Literal["auto", "on", "off"] = "auto"
    """the blocks, once, for some seconds to minutes; auto does it for models of 10 M parameters
    and more, where there is a compiler."""
    deterministic: bool = False
    """the same bits in every repetition on a GPU too, somewhat slower; a CPU gives them anyway."""

    def __post_init__(self) -> None:
        counts = ("max_steps", "batch_size", "eval_every", "keep_checkpoints", "max_bad_steps")
        for name in counts:
            flag = "--train." + name.replace("_", "-")
            advice = "; main.py evaluate RUN measures without training" * (name == "max_steps")
            require_range(flag, getattr(self, name), 1, MAX_COUNT, advice)
        require_range("--train.warmup-steps", self.warmup_steps, 0, MAX_COUNT)
        require_range("--train.snapshots", self.snapshots, 0, 10_000, "; 16 show how a run learns")
        require_range("--train.seed", self.seed, -(2**63), 2**63 - 1, ", a number of 64 bits")
        windows, peak, last = self.micro_batch, self.learning_rate, self.final_learning_rate
        decay, spikes = self.weight_decay, self.skip_spikes
        checks = {
            "micro_batch": (
                windows in (None, "auto") or 1 <= int(windows) <= self.batch_size,
                f"lie from 1 to --train.batch-size {self.batch_size}",
            ),
            "learning_rate": (0 < peak <= 1000, "be positive and at most 1000; try 6e-4"),
            "final_learning_rate": (
                0 < last <= peak,
                f"be positive and at most --train.learning-rate {peak}; "
                f"try --train.final-learning-rate {peak / 10:g}",
            ),
            "weight_decay": (
                0 <= decay * peak <= 1,
                f"be at least 0, and at most 1 when multiplied by --train.learning-rate {peak}, "
                "or each step reverses the weights",
            ),
            "beta1": (0 <= self.beta1 < 1, "be at least 0 and below 1"),
            "beta2": (0 <= self.beta2 < 1, "be at least 0 and below 1"),
            "grad_clip": (0 <= self.grad_clip < inf, "be a number from 0 on; try 1, or 0 for none"),
            "skip_spikes": (spikes is None or 0 < spikes < inf, "be a number above 0; try 6"),
        }
        require_each("train", self, checks)


@dataclass(frozen=True, kw_only=True)
class InitFrom:
    """The run whose weights another run began from."""

    run: str
    weights_sha256: str  # of its model.safetensors


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All settings of one run."""

    __pydantic_config__ = {"extra": "forbid"}  # in config.json, also in each of these parts

    model: GPT2Config = field(default_factory=GPT2Config)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    init_from: InitFrom | None = None  # None: from random weights


_GPT2 = GPT2Config()

PRESETS: dict[str, GPT2Config] = {
    "tiny": GPT2Config(
        vocab_size=2048, context_length=176, n_layer=4, n_head=4, n_embd=128, dropout=0.0
    ),
    "shakespeare-char": GPT2Config(
        vocab_size=66, context_length=64, n_layer=4, n_head=4, n_embd=128, dropout=0.0
    ),
    "book": replace(_GPT2, context_length=256),
    "gpt2": _GPT2,
    "gpt2-medium": replace(_GPT2, n_layer=24, n_head=16, n_embd=1024),
    "gpt2-large": replace(_GPT2, n_layer=36, n_head=20, n_embd=1280),
    "gpt2-xl": replace(_GPT2, n_layer=48, n_head=25, n_embd=1600),
}
DEFAULT_PRESET = "tiny"

_TRAINING: dict[str, TrainConfig] = {
    "tiny": TrainConfig(
        max_steps=1700, batch_size=16, optimizer="muon", learning_rate=6e-3,
        final_learning_rate=6e-5, warmup_steps=50, beta2=0.98, eval_every=400, snapshots=16,
    ),
    "shakespeare-char": TrainConfig(
        max_steps=2000, batch_size=12, optimizer="muon", learning_rate=4e-3,
        final_learning_rate=4e-5, warmup_steps=50, beta2=0.99, eval_every=500,
    ),
    "book": TrainConfig(batch_size=4),
}  # fmt: skip


def preset(name: str) -> RunConfig:
    """The settings that a preset stands for: PRESETS[name] and the training that suits it."""
    if name not in PRESETS:
        raise ValueError(f"--preset {name} is unknown; choose one of {', '.join(PRESETS)}")
    return RunConfig(model=PRESETS[name], train=_TRAINING.get(name, TrainConfig(batch_size=8)))
