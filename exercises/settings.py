"""LearnCommand: the settings of `learn`, made from its flags before torch is imported.

Previous: ../main.py.  Next: catalogue.py.
"""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from cfg_gpt2 import DataConfig, require, require_count
from commands.flags import parse_flags
from commands.language import Language
from exercises.catalogue import EXERCISES, require_name

ACTIONS = {  # and how many names each takes: at least, at most
    "list": (0, 0),
    "start": (1, 1),
    "check": (0, len(EXERCISES)),
    "hint": (1, 1),
    "look": (1, 1),
    "show": (1, 1),
    "train": (1, len(EXERCISES)),
}


@dataclass(frozen=True, kw_only=True)
class LearnCommand:
    """Write the parts of GPT-2 yourself: start, check, hint, look, show, train."""

    action: tyro.conf.Positional[str] = "list"
    """list: the exercises and what is done; start NAME: write the file to begin with; check NAME:
    compare what it computes; hint NAME; look NAME: draw it; show NAME: a solution; train NAME:
    train GPT-2 with it"""
    names: tyro.conf.Positional[tuple[str, ...]] = ()  # of exercises, such as attention
    folder: Path = Path("mine")  # where your files lie
    language: Language | None = None  # en or ru; None: as LC_ALL, LC_MESSAGES or LANG say
    json: bool = False  # list and check: one line of JSON for each exercise
    seed: int = 1  # of the numbers that your part is given
    png: Path | None = None  # look: draw a picture into this file as well
    steps: int = 300  # train: optimizer steps; 1700 are a whole run
    out: Path | None = None  # train: the new run's directory; None: runs/mine
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        known = ", ".join(ACTIONS)
        advice = f"; did you mean learn check {self.action}?" if self.action in EXERCISES else ""
        require(self.action in ACTIONS, f"{self.action} is none of {known}{advice}")
        least, most = ACTIONS[self.action]
        count = len(self.names)
        example = f"such as python main.py learn {self.action} {next(iter(EXERCISES))}"
        require(count >= least, f"learn {self.action} needs the name of an exercise, {example}")
        require(count <= most, f"learn {self.action} takes {most or 'no'} name, not {count}")
        for name in self.names:
            require_name(name)
        require_count("--steps", self.steps)
        require(0 <= self.seed < 2**31, f"--seed {self.seed} must be at least 0 and below 2^31")


def read_learn_command(arguments: list[str]) -> LearnCommand:
    """Returns the settings of `learn`. Raises ValueError where flags are wrong."""
    return parse_flags(LearnCommand, "learn", arguments)
