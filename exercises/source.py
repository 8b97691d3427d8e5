"""Source text becomes a module: the learner's file, and the twins of the solution.

A twin is the source of the solution with the edits of one mistake, or of two at once.
Previous: exercise.py.  Next: run_part.py.
"""

import inspect
import sys
from collections.abc import Iterable
from functools import cache
from importlib.abc import SourceLoader
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType

from exercises.exercise import Exercise, Mistake, Part

HEADER = """import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cfg_gpt2 import GPT2Config
"""


class TextLoader(SourceLoader):
    """Imports a module from a text that is held already, so that the text is read once."""

    def __init__(self, text: str, path: str) -> None:
        self.text, self.path = text, path

    def get_data(self, path: str | bytes) -> bytes:
        """Returns the bytes of the text."""
        return self.text.encode()

    def get_filename(self, fullname: str) -> str:
        """Returns the name that a traceback shows."""
        return self.path


def header_of(exercise: Exercise) -> str:
    """Returns the imports of a solution."""
    return f"{HEADER}{exercise.imports}\n\n"


def module_of(text: str, path: str | Path, name: str) -> ModuleType:
    """Returns the module that a text is. Raises what the text raises."""
    loader = TextLoader(text, str(path))
    module = module_from_spec(ModuleSpec(name, loader, origin=str(path)))
    sys.modules[name] = module  # where dataclasses and inspect look for it
    loader.exec_module(module)
    return module


@cache  # reading it out of its file takes 10 ms
def solution_of(exercise: Exercise) -> str:
    """Returns the source of the written-out solution, without the imports above it."""
    return inspect.getsource(exercise.solution)


def edited(exercise: Exercise, mistakes: Iterable[Mistake]) -> str | None:
    """Returns the source with all edits of some mistakes, None where one finds no place."""
    text = solution_of(exercise)
    for mistake in mistakes:
        for old, new in mistake.edits:
            if old not in text:
                return None
            text = text.replace(old, new)
    return text


def twin(exercise: Exercise, *mistakes: Mistake) -> Part | None:
    """Returns the part with some mistakes in it, None where they exclude each other."""
    text = edited(exercise, mistakes)
    if text is None:
        return None
    name = "_".join(mistake.name for mistake in mistakes)
    module = module_of(header_of(exercise) + text, f"<{name}>", "exercises_twin")
    return getattr(module, exercise.solution.__name__)
