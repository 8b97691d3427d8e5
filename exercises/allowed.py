"""What a part may not use: the ready-made function that it is to be written out for.

It is looked for twice: in the syntax tree, with the line, and while the part runs, where
getattr(F, "layer" + "_norm") is found as well. Neither is a lock: a lock would be broken.
Previous: run_part.py.  Next: child.py.
"""

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from torch.overrides import TorchFunctionMode

from exercises.exercise import Exercise


class Forbidden(Exception):
    """A call of a function that the exercise is to write out."""


def forbidden_uses(exercise: Exercise, text: str) -> Iterator[tuple[int, str]]:
    """Yields the line and the name of each use of what is forbidden.

    Raises SyntaxError where the text is no Python.
    """
    modules = {Path(exercise.file).stem, exercise.part.__module__, "exercises", "finetuning"}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and node.attr in exercise.forbidden:
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [alias.name for alias in node.names]
            if module.partition(".")[0] in modules:
                yield node.lineno, f"from {module} import {', '.join(names)}"
            for name in names:
                if module.startswith("torch") and name in exercise.forbidden:
                    yield node.lineno, name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in modules:
                    yield node.lineno, f"import {alias.name}"


class Watch(TorchFunctionMode):
    """Raises Forbidden where torch is asked for a forbidden function."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self.names = frozenset(names)

    def __torch_function__(
        self,
        func: Callable,
        types: Iterable[type],
        args: tuple = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        name = getattr(func, "__name__", "")
        if name in self.names:
            raise Forbidden(name)
        return func(*args, **(kwargs or {}))
