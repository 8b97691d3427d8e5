"""A rule for every torch.autograd.Function: forward returns no tensor that it changed in place.

torch 2.11 compiles such a function without its gradient, and says nothing (pytorch issue 180642).
The oracle is the source, read with `ast`, so the rule holds on every version of torch.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = [
    path
    for path in ROOT.rglob("*.py")
    if not {".venv", "tests"} & set(path.relative_to(ROOT).parts)
    and "autograd.Function" in path.read_text(encoding="utf-8")
]


def forwards(source: str) -> list[ast.FunctionDef]:
    """Returns the forward methods of the subclasses of autograd.Function in a module."""
    return [
        method
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
        and any("Function" in ast.unparse(base) for base in node.bases)
        for method in node.body
        if isinstance(method, ast.FunctionDef) and method.name == "forward"
    ]


def is_in_place(node: ast.expr) -> bool:
    """Returns whether an expression is the call of an in-place method, such as y.add_(bias)."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    name = node.func.attr
    return name.endswith("_") and not name.endswith("__")


def changed_results(forward: ast.FunctionDef) -> set[str]:
    """Returns the results of a forward that an in-place operation made or changed."""
    changed: set[str] = set()
    for node in ast.walk(forward):
        if isinstance(node, ast.Assign) and is_in_place(node.value):
            changed |= {ast.unparse(target) for target in node.targets}
        if isinstance(node, ast.AugAssign):
            changed.add(ast.unparse(node.target))
        if is_in_place(node) and isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Attribute)
            changed.add(ast.unparse(node.func.value))
    results: list[ast.expr] = []
    pending = [n.value for n in ast.walk(forward) if isinstance(n, ast.Return) and n.value]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Tuple):
            pending += node.elts
        elif isinstance(node, ast.IfExp):
            pending += [node.body, node.orelse]
        else:
            results.append(node)
    return {ast.unparse(r) for r in results if is_in_place(r) or ast.unparse(r) in changed}


def test_the_kernels_are_found() -> None:
    assert {path.name for path in FILES} >= {"gelu.py", "layer_norm.py", "linear.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_forward_returns_what_it_changed_in_place(path: Path) -> None:
    for forward in forwards(path.read_text(encoding="utf-8")):
        assert changed_results(forward) == set()


@pytest.mark.parametrize(
    "body",
    [
        "return x.add_(bias)",
        "return x if bias is None else x.add_(bias)",
        "y = x * 2\n    y.mul_(bias)\n    return y",
        "y = x.clone().add_(bias)\n    return y, bias",
        "y = x * 2\n    y += bias\n    return y",
    ],
)
def test_the_rule_sees_each_form_of_the_fault(body: str) -> None:
    source = f"class A(torch.autograd.Function):\n  def forward(ctx, x, bias):\n    {body}\n"
    (forward,) = forwards(source)
    assert changed_results(forward)
