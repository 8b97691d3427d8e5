"""Shape comments, executed: each is compared with the tensors that its line really makes.

    with ShapeComments([module, ...], sizes={"B": 2, "T": 3, ...}) as comments:
        ...run the code...
    comments.mistakes, comments.unseen

Two forms are read. `x = f(x)  # (B, T, C)` is compared with what the statement assigns or
returns; a docstring that begins `(B, T, C) -> (B, T, F)` with the arguments and the result.
It may leave out arguments that have a default, such as a mask.
A size None fits any number. Works by sys.settrace, so the code itself stays as it is.
"""

import ast
import inspect
import io
import re
import sys
import tokenize
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, ModuleType, TracebackType

from torch import Tensor

TraceFunction = Callable[[FrameType, str, object], object]  # as sys.settrace takes it

SHAPE = r"\((?:(?:\.\.\.|\d*[A-Z]|\d+)(?:, *|(?=\))))+\)"
SIZE = re.compile(r"\.\.\.|\d*[A-Z]|\d+")
COUNTED_SHAPE = re.compile(rf"(two of +)?({SHAPE})", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class LineClaim:
    """A trailing comment, and the statement that it stands behind."""

    where: str
    shape: str
    statement: ast.stmt


@dataclass(frozen=True, eq=False)
class SignatureClaim:
    """The shapes on either side of the arrow in a docstring's first line."""

    where: str
    arguments: list[str]
    results: list[str]
    optional: list[str]  # names of the arguments that have a default


@dataclass
class SourceFile:
    """What one file claims, by line number."""

    lines: dict[int, LineClaim] = field(default_factory=dict)  # every line of the statement
    signatures: dict[int, SignatureClaim] = field(default_factory=dict)  # first line of the def


class ShapeComments:
    """A context manager that watches the functions of some modules while they run."""

    def __init__(self, modules: list[ModuleType], sizes: dict[str, int | None]) -> None:
        self.sizes = sizes
        self.mistakes: list[str] = []
        self.seen: set[LineClaim | SignatureClaim] = set()
        self.files = {str(m.__file__): self.read(Path(str(m.__file__))) for m in modules}

    @property
    def claims(self) -> set[LineClaim | SignatureClaim]:
        files = self.files.values()
        return {c for f in files for c in [*f.lines.values(), *f.signatures.values()]}

    @property
    def unseen(self) -> list[str]:
        """The places of comments whose line was never run."""
        return sorted(claim.where for claim in self.claims - self.seen)

    def read(self, path: Path) -> SourceFile:
        source, found = path.read_text(encoding="utf-8"), SourceFile()
        nodes = list(ast.walk(ast.parse(source)))
        simple = [n for n in nodes if isinstance(n, ast.stmt) and not hasattr(n, "body")]
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            match = re.match(rf"#\s*({SHAPE})", token.string)
            if token.type != tokenize.COMMENT or not match:
                continue
            line, where = token.start[0], f"{path.name}:{token.start[0]}"
            owner = [n for n in simple if n.lineno <= line <= (n.end_lineno or n.lineno)]
            if not owner:
                self.mistakes.append(f"{where}: {match[1]} stands behind no statement")
                continue
            claim = LineClaim(where, match[1], owner[0])
            for number in range(owner[0].lineno, (owner[0].end_lineno or line) + 1):
                found.lines[number] = claim
        for node in nodes:
            if isinstance(node, ast.FunctionDef):
                self.read_signature(path, node, found)
        return found

    def read_signature(self, path: Path, node: ast.FunctionDef, found: SourceFile) -> None:
        left, arrow, right = (ast.get_docstring(node) or "").partition("\n")[0].partition("->")
        names = [argument.arg for argument in node.args.args]
        optional = names[len(names) - len(node.args.defaults) :]
        where = f"{path.name}:{node.lineno}"
        claim = SignatureClaim(where, all_shapes(left), all_shapes(right), optional)
        if arrow and (claim.arguments or claim.results):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            found.signatures[first] = claim

    # watching -------------------------------------------------------------------------------

    def __enter__(self) -> "ShapeComments":
        self.before = sys.gettrace()
        sys.settrace(self.on_call)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        sys.settrace(self.before)

    def on_call(self, frame: FrameType, event: str, arg: object) -> TraceFunction | None:
        code = frame.f_code
        file = self.files.get(code.co_filename)
        if file is None or code.co_name.startswith("<"):
            return None
        signature = file.signatures.get(code.co_firstlineno)
        if signature is not None and not code.co_flags & inspect.CO_GENERATOR:
            names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            names = [n for n in names if isinstance(frame.f_locals[n], Tensor)]
            if len(names) > len(signature.arguments):
                names = [n for n in names if n not in signature.optional]
            given = [frame.f_locals[n] for n in names]
            if signature.arguments:
                self.compare(signature, given, signature.arguments, "takes")
        pending: LineClaim | None = None  # the commented statement that is being executed
        raised = False

        def on_event(frame: FrameType, event: str, arg: object) -> TraceFunction:
            nonlocal pending, raised
            if event == "exception":
                pending, raised = None, True
            elif event == "line":
                raised = False
                claim = file.lines.get(frame.f_lineno)
                if pending is not None and claim is not pending:
                    self.check_line(pending, frame, None)
                pending = claim
            elif event == "return" and not raised:
                if pending is not None:
                    self.check_line(pending, frame, arg)
                if signature is not None and signature.results:
                    self.compare(signature, as_list(arg), signature.results, "returns")
            return on_event

        return on_event

    # comparing ------------------------------------------------------------------------------

    def check_line(self, claim: LineClaim, frame: FrameType, returned: object) -> None:
        statement = claim.statement
        if isinstance(statement, ast.Return):
            values = as_list(returned)
        elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names = [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
            values = [frame.f_locals[name] for name in names]
        else:
            values = []
        self.compare(claim, values, [claim.shape] * max(1, len(values)), "has")

    def compare(
        self, claim: LineClaim | SignatureClaim, values: list[object], shapes: list[str], verb: str
    ) -> None:
        self.seen.add(claim)
        if len(values) != len(shapes):
            self.mistakes.append(f"{claim.where}: {verb} {len(values)} values, not {shapes}")
            return
        for value, shape in zip(values, shapes, strict=True):
            if not isinstance(value, Tensor):
                self.mistakes.append(f"{claim.where}: {verb} a {type(value).__name__}, not {shape}")
            elif not self.fits(tuple(value.shape), shape):
                self.mistakes.append(f"{claim.where}: {verb} {tuple(value.shape)}, not {shape}")

    def fits(self, shape: tuple[int, ...], written: str) -> bool:
        sizes = SIZE.findall(written)
        if sizes[0] == "...":
            sizes = sizes[1:]
            if len(shape) < len(sizes):
                return False
            shape = shape[len(shape) - len(sizes) :]
        return len(shape) == len(sizes) and all(map(self.size_fits, shape, sizes))

    def size_fits(self, size: int, written: str) -> bool:
        if written.isdigit():
            return size == int(written)
        factor, letter = written[:-1] or "1", written[-1]
        known = self.sizes.get(letter, -1)  # a letter that is not in the legend fits nothing
        return known is None or size == int(factor) * known


def all_shapes(text: str) -> list[str]:
    """`two of (B, T)` counts twice."""
    return [s for twice, s in COUNTED_SHAPE.findall(text) for _ in range(2 if twice else 1)]


def as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, tuple) else [value]
