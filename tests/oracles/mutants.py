"""Automatic mutants of a class: one small change each, of a sign, a number, a call, a line."""

import ast
from collections.abc import Iterator
from copy import deepcopy

OPERATORS = {
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div], ast.Div: [ast.Mult],
    ast.Pow: [ast.Mult], ast.MatMult: [], ast.FloorDiv: [ast.Mult],
}  # fmt: skip


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Yields a description and the source of each mutant of the methods of a class."""
    tree = ast.parse(source)
    nodes = [node for node in ast.walk(tree) if hasattr(node, "lineno")]
    for n, node in enumerate(nodes):
        for m in range(len(list(changes(node)))):
            copy = deepcopy(tree)
            target = [node for node in ast.walk(copy) if hasattr(node, "lineno")][n]
            what, new = list(changes(target))[m]
            mutant = ast.fix_missing_locations(Put(target, new).visit(copy))
            yield f"{what}: {ast.unparse(node)[:60]}", ast.unparse(mutant)


class Put(ast.NodeTransformer):
    """Puts a node in the place of another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else super().generic_visit(node)


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yields what can be put in the place of a node."""
    if isinstance(node, ast.BinOp) and not isinstance(node.op, ast.BitOr):  # int | None
        for other in OPERATORS.get(type(node.op), []):
            yield f"to {other.__name__}", ast.BinOp(node.left, other(), node.right)
        yield "left only", node.left
        yield "right only", node.right
    if isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, int | float) and not isinstance(value, bool):
            for step in (1, -1):
                yield f"{step:+}", ast.Constant(value + step)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "no minus", node.operand
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):
            yield "no call", node.func.value
        for n in range(len(node.keywords)):
            kept = node.keywords[:n] + node.keywords[n + 1 :]
            yield f"no {node.keywords[n].arg}", ast.Call(node.func, node.args, kept)
        if node.args and not isinstance(node.func, ast.Attribute):
            yield "argument only", node.args[0]
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name | ast.Tuple):
        yield "no line", ast.Pass()
