"""The exercises in reading order: each name, and the module that holds its EXERCISE.

They are strings, so that flags are read without torch. One more exercise is one more file in
parts/ and one more line here.
Previous: settings.py.  Next: exercise.py.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from cfg_gpt2 import require

if TYPE_CHECKING:
    from exercises.exercise import Exercise

EXERCISES = {
    "gelu": "exercises.parts.gelu",
    "layer-norm": "exercises.parts.layer_norm",
    "feed-forward": "exercises.parts.feedforward",
    "causal-softmax": "exercises.parts.causal_softmax",
    "attention": "exercises.parts.attention",
    "block": "exercises.parts.block",
}


def require_name(name: str) -> None:
    """Raises ValueError for a name that no exercise has."""
    known = ", ".join(EXERCISES)
    require(name in EXERCISES, f"{name} is no exercise; choose one of {known}")


def load_exercise(name: str) -> "Exercise":
    """Imports the module of an exercise and returns the Exercise."""
    return import_module(EXERCISES[name]).EXERCISE
