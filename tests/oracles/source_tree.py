"""The source tree as the rules of CONTRIBUTING.md see it: its files, floors and imports."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

READING_ORDER = [
    "cfg_gpt2", "gelu", "layer_norm", "feedforward", "multiheadattention", "transformer_block",
    "gpt2", "loss", "tokenizer", "load_data", "generation", "trainer", "main",
]  # fmt: skip
CELLARS = ["run_directory", "data", "decoding", "training", "commands"]
UPPER_FLOORS = [
    "native", "pretrained", "quantization", "preparation", "evaluation", "diagnostics",
    "finetuning", "visualization", "serving", "exercises", "benchmarks",
]  # fmt: skip


def files_below(folder: Path) -> Iterator[Path]:
    """Yields the .py files of a folder, hidden folders, environments and results left out."""
    for place, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith((".", "__"))
            and not (Path(place) / name / "pyvenv.cfg").exists()
            and Path(place) / name not in (ROOT / "runs", ROOT / "data" / "cache")
        ]
        yield from (Path(place) / name for name in names if name.endswith(".py"))


def root_files() -> list[Path]:
    """Returns the thirteen files of the textbook, in reading order."""
    return [ROOT / f"{name}.py" for name in READING_ORDER]


def ground_floor() -> list[Path]:
    """Returns the textbook and the cellars that it stands on."""
    return root_files() + sorted(file for name in CELLARS for file in files_below(ROOT / name))


def upper_floors() -> list[Path]:
    """Returns the files of every further capability."""
    return sorted(file for name in UPPER_FLOORS for file in files_below(ROOT / name))


def name_of(path: Path) -> str:
    """Returns the path of a file from the root of the repository, with slashes."""
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    """Returns the name under which a file is imported."""
    return name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def parsed(path: Path) -> ast.Module:
    """Returns the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(tree: ast.AST, package: str = "") -> set[str]:
    """Returns every module that a file imports, at the top or inside a function.

    `from a import b` counts as a and as a.b, which may be a module or a name.
    """
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                module = ".".join([*parents, module]).strip(".") if parents[0] else ".."
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and called_name(node) in ("import_module", "__import__"):
            found |= {
                value.value
                for value in node.args[:1]
                if isinstance(value, ast.Constant) and isinstance(value.value, str)
            }
    return found


def called_name(node: ast.Call) -> str:
    """Returns print for print(...), and load for torch.load(...)."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def tops(modules: set[str]) -> set[str]:
    """Returns the first part of each module's name."""
    return {module.partition(".")[0] for module in modules}
