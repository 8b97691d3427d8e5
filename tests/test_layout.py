"""The layout of CONTRIBUTING.md: which file stands where, and which may import which."""

import ast
import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from oracles.source_tree import (
    CELLARS,
    READING_ORDER,
    ROOT,
    UPPER_FLOORS,
    called_name,
    ground_floor,
    imports_of,
    module_of,
    name_of,
    parsed,
    root_files,
    tops,
    upper_floors,
)

import main
from commands.engines import ENGINES

THIRD_PARTY = {
    "torch", "numpy", "tokenizers", "safetensors", "tyro", "pydantic", "pydantic_core", "rich",
    "matplotlib", "charset_normalizer",
}  # fmt: skip
CELLARS_OF = {  # the cellars that each root file stands on
    "gpt2": {"run_directory"},
    "tokenizer": {"run_directory"},
    "load_data": {"run_directory", "data"},
    "generation": {"decoding"},
    "trainer": {"run_directory", "data", "training"},
    "main": {"commands", "run_directory"},
}
ROOT_FILES_BELOW = {  # a cellar may import the root files that are read before this one
    "run_directory": "load_data",
    "data": "load_data",
    "decoding": "generation",
    "training": "trainer",
    "commands": "main",
}
CELLARS_BELOW = {
    "run_directory": set(),
    "data": {"run_directory"},
    "decoding": {"run_directory"},
    "training": {"run_directory", "data"},
    "commands": set(CELLARS),
}
NEIGHBOURS = {  # the upper floors that a folder may import besides itself
    "benchmarks": set(UPPER_FLOORS),
    "diagnostics/verify": set(UPPER_FLOORS),
    "serving": {"finetuning", "visualization"},
    "exercises": {"finetuning", "visualization"},
}

GROUND_FLOOR = [pytest.param(path, id=name_of(path)) for path in ground_floor()]
ROOT_FILES = [pytest.param(path, id=name_of(path)) for path in root_files()]
UPPER_FILES = [pytest.param(path, id=name_of(path)) for path in upper_floors()]
OWN = {*READING_ORDER, *CELLARS, *UPPER_FLOORS, "tests"}


def read_before(module: str) -> set[str]:
    return set(READING_ORDER[: READING_ORDER.index(module)])


def allowed_imports(path: Path) -> set[str]:
    """Returns the project's own root files and folders that a file may import."""
    top, *rest = path.relative_to(ROOT).parts
    if top in CELLARS:
        return {top, *read_before(ROOT_FILES_BELOW[top]), *CELLARS_BELOW[top]}
    if top in UPPER_FLOORS:
        neighbours = NEIGHBOURS.get(top, set()) | NEIGHBOURS.get(f"{top}/{rest[0]}", set())
        return {top, *CELLARS, *read_before("main"), *neighbours}
    if path.stem == "main":
        return CELLARS_OF["main"]
    return read_before(path.stem) | CELLARS_OF.get(path.stem, set())


def test_the_root_holds_the_thirteen_files_and_no_other() -> None:
    assert sorted(path.stem for path in ROOT.glob("*.py")) == sorted(READING_ORDER)


@pytest.mark.parametrize("path", ROOT_FILES)
def test_every_header_ends_with_the_previous_and_the_next_file(path: Path) -> None:
    last = (ast.get_docstring(parsed(path)) or "").rpartition("\n")[2]
    match = re.fullmatch(r"Previous: (.+)\.  Next: (.+)\.", last)
    assert match, f"{path.name} ends its header with: {last}"
    place = READING_ORDER.index(path.stem)
    if place > 0:
        assert f"{READING_ORDER[place - 1]}.py" in f"{match[1]}."
    if path.stem != "main":
        assert f"{READING_ORDER[place + 1]}.py" in f"{match[2]}."


@pytest.mark.parametrize("path", GROUND_FLOOR)
def test_the_ground_floor_imports_only_what_is_read_before(path: Path) -> None:
    imported = tops(imports_of(parsed(path), module_of(path.parent)))
    assert imported - set(sys.stdlib_module_names) - THIRD_PARTY - allowed_imports(path) == set()


@pytest.mark.parametrize("path", UPPER_FILES)
def test_upper_floors_import_the_ground_floor_and_their_allowed_neighbours(path: Path) -> None:
    imported = tops(imports_of(parsed(path), module_of(path.parent))) & OWN
    assert imported - allowed_imports(path) == set()


def test_verify_plan_and_doctor_do_not_import_each_other() -> None:
    for path in (ROOT / "diagnostics").rglob("*.py"):
        own = path.relative_to(ROOT).parts[1]
        others = {f"diagnostics.{name}" for name in ("verify", "plan", "doctor")} - {
            f"diagnostics.{own}"
        }
        imported = {".".join(name.split(".")[:2]) for name in imports_of(parsed(path))}
        assert imported & others == set(), name_of(path)


def test_the_import_graph_has_no_cycle() -> None:
    files = {module_of(path): path for path in ground_floor() + upper_floors()}
    graph = {
        module: (imports_of(parsed(path), module_of(path.parent)) & files.keys()) - {module}
        for module, path in files.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_imports_are_found_wherever_they_stand() -> None:
    text = """
import a.b, c as d
def f():
    from e.f import g
    if True:
        import importlib; importlib.import_module("h.i"); __import__("j")
from . import k
from .l import m
from .. import n
"""
    modules = imports_of(ast.parse(text), "own.sub")
    assert {"a.b", "c", "e.f", "e.f.g", "h.i", "j", "own.sub.k", "own.sub.l", "own.n"} <= modules
    assert tops(modules) == {*"acehj", "importlib", "own"}


def test_main_knows_other_folders_only_as_strings_in_its_table() -> None:
    for name, (*targets, line) in main.COMMANDS.items():
        for target in targets:
            module, function = target.split(":")
            assert module.split(".")[0] in ("commands", *UPPER_FLOORS), name
            file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
            functions = [n.name for n in ast.walk(parsed(file)) if isinstance(n, ast.FunctionDef)]
            assert function in functions, name
        assert line and "\n" not in line
    table = next(
        node
        for node in parsed(ROOT / "main.py").body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMMANDS"
    )
    inside = set(ast.walk(table))
    modules = re.compile(rf"({'|'.join([*UPPER_FLOORS, *CELLARS])})[.:]\w+")
    strings = [
        node.value
        for node in ast.walk(parsed(ROOT / "main.py"))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside
    ]
    assert [text for text in strings if modules.fullmatch(text)] == []


def test_every_engine_is_a_module_of_an_upper_floor() -> None:
    for module in ENGINES.values():
        assert module.split(".")[0] in UPPER_FLOORS
        assert ROOT.joinpath(*module.split(".")).with_suffix(".py").is_file()


def test_a_class_of_the_ground_floor_is_defined_once() -> None:
    def classes(path: Path) -> list[str]:
        return [node.name for node in ast.walk(parsed(path)) if isinstance(node, ast.ClassDef)]

    ground = [name for path in ground_floor() for name in classes(path)]
    assert len(ground) == len(set(ground))
    others = [path for path in upper_floors() if ROOT / "exercises" not in path.parents]
    assert [name for path in others for name in classes(path) if name in ground] == []


def loads_pickles(call: ast.Call) -> bool:
    """Tells whether a call is torch.save, or torch.load without weights_only=True."""
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    function = ast.unparse(call.func)
    if function == "torch.load":
        return keywords.get("weights_only") != "True"
    return function == "torch.save" or keywords.get("allow_pickle", "False") != "False"


@pytest.mark.parametrize("path", GROUND_FLOOR + UPPER_FILES)
def test_no_pickle_is_loaded_and_only_commands_print(path: Path) -> None:
    calls = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
    assert [ast.unparse(call) for call in calls if loads_pickles(call)] == []
    if module_of(path).split(".")[0] in ("main", "commands"):
        return
    targets = [target for *targets, _ in main.COMMANDS.values() for target in targets]
    if module_of(path) in {target.split(":")[0] for target in targets}:
        return
    assert [call.lineno for call in calls if called_name(call) == "print" and prints(call)] == []


def prints(call: ast.Call) -> bool:
    """Tells whether a call is the built-in print, and no method of that name."""
    return isinstance(call.func, ast.Name)


def test_unsafe_loading_is_found() -> None:
    text = "torch.load(f); torch.save(x, f); np.load(f, allow_pickle=True)\n"
    text += "torch.load(f, weights_only=flag); torch.load(f, weights_only=True); np.load(f)"
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    assert [loads_pickles(call) for call in calls].count(True) == 4
