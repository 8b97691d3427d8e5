"""LoraConfig: which matrices learn by LoRA, and how thin its two factors are.

Alpha stands for a constant step: with it the same learning rate suits every rank, about ten times
that of full finetuning.                        LoRA Without Regret, Thinking Machines 2025
Previous: preview.py.  Next: lora.py.
"""

from dataclasses import dataclass
from pathlib import Path

from cfg_gpt2 import MAX_SIZE, require, require_range

MATRICES = ("qkv_proj", "out_proj", "widen_proj", "narrow_proj")  # of a block
TIED = ("lm_head", "token_embedding")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """How LoRA learns."""

    __pydantic_config__ = {"extra": "forbid"}

    rank: int = 16  # rows of A and columns of B, the r of the paper
    alpha: float = 32  # B A counts alpha / rank times
    dropout: float = 0.0  # of what A reads, while training
    targets: tuple[str, ...] = MATRICES
    """qkv_proj, out_proj, widen_proj and narrow_proj of every block, or some of them."""
    adapter: Path | None = None
    """a folder with an adapter to begin from, peft's or a run's own; None: A random, B zero."""

    def __post_init__(self) -> None:
        require_range("--lora.rank", self.rank, 1, MAX_SIZE)
        require_range("--lora.alpha", self.alpha, 1e-3, 1e6, "; try 32")
        require(
            0 <= self.dropout < 1,
            f"--lora.dropout {self.dropout} must be at least 0 and below 1; try 0",
        )
        require(len(self.targets) > 0, "--lora.targets is empty; leave it out for all matrices")
        for name in self.targets:
            require(
                name not in TIED,
                f"--lora.targets {name}: the head shares its weights with the token embedding; "
                "train it by --method sft",
            )
            require(
                name in MATRICES,
                f"--lora.targets {name} is no matrix of a block; choose among {' '.join(MATRICES)}",
            )

    @property
    def scale(self) -> float:
        """How many times B A counts."""
        return self.alpha / self.rank


def require_adamw(optimizer: str) -> None:
    """Raises ValueError for an optimizer that A and B do not learn by."""
    require(
        optimizer == "adamw",
        f"--train.optimizer {optimizer} is for whole matrices, and LoRA's A and B are thin; "
        "take --train.optimizer adamw",
    )
