"""PreferenceConfig: how a model learns from pairs of a better and a worse answer.

Previous: supervised.py.  Next: pairs.py.
"""

from dataclasses import dataclass
from typing import Literal

from cfg_gpt2 import require_range


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig:
    """How DPO and IPO learn."""

    __pydantic_config__ = {"extra": "forbid"}

    loss: Literal["dpo", "ipo"] = "dpo"  # preference.py has the formulas
    beta: float = 0.1  # how dearly the model pays for leaving the weights that it began with
    chosen_nll: float = 0.1
    """weight of the chosen answer's loss per token, which keeps it likely; 0 as in the papers"""

    def __post_init__(self) -> None:
        require_range("--preference.beta", self.beta, 1e-4, 1e4, "; try 0.1")
        require_range("--preference.chosen-nll", self.chosen_nll, 0, 100, "; try 0.1")
