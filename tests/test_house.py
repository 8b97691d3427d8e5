"""The rules of the house: what stands where, who may import whom, and that comments are true."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from oracles.shape_comments import ShapeComments

import decoding.batch
import decoding.choice
import decoding.filters
import feedforward
import gelu
import generation
import gpt2
import layer_norm
import loss
import multiheadattention
import transformer_block
from cfg_gpt2 import GPT2Config

HOUSE = Path(__file__).resolve().parent.parent

READING_ORDER = [
    "cfg_gpt2", "gelu", "layer_norm", "feedforward", "multiheadattention", "transformer_block",
    "gpt2", "loss", "tokenizer", "load_data", "generation", "trainer", "main",
]  # fmt: skip
GROUND_FOLDERS = ["data", "decoding", "training"]  # what load_data, generation, trainer stand on
THIRD_PARTY = {
    "torch", "numpy", "tokenizers", "safetensors", "tyro", "pydantic", "rich", "matplotlib",
}  # fmt: skip
UPPER_FLOORS = [
    "pretrained", "quantization", "evaluation", "diagnostics", "finetuning", "visualization",
    "playground", "exercises", "benchmarks", "preparation", "native",
]  # fmt: skip
NEIGHBOURS = {  # the folders that an upper floor may import, besides the ground floor
    "playground": {"finetuning"},
    "benchmarks": set(UPPER_FLOORS),
    "diagnostics": set(UPPER_FLOORS),
}


def allowed_imports(path: Path) -> set[str]:
    """The project's own modules and folders that a file may import."""
    top = path.relative_to(HOUSE).parts[0]
    if top == "data":
        return {"data", *before("load_data")}
    if top == "training":
        return {"training", *before("trainer")}
    if top == "decoding":
        return {"decoding", *before("generation")}
    if top in UPPER_FLOORS:
        ground = {*GROUND_FOLDERS, *READING_ORDER} - {"main"}
        return {top, *ground, *NEIGHBOURS.get(top, set())}
    allowed = set(before(path.stem))
    if path.stem in ("load_data", "trainer", "main"):
        allowed.add("data")
    if path.stem in ("generation", "main"):
        allowed.add("decoding")
    if path.stem == "main":
        allowed.add("native")
    if path.stem in ("trainer", "main"):
        allowed.add("training")
    return allowed


def before(module: str) -> list[str]:
    return READING_ORDER[: READING_ORDER.index(module)]


def files_below(folder: Path) -> Iterator[Path]:
    """Its .py files, but for hidden folders, environments and what is generated."""
    for place, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith((".", "__"))
            and not (Path(place) / name / "pyvenv.cfg").exists()
            and Path(place) / name not in (HOUSE / "runs", HOUSE / "data" / "cache")
        ]
        yield from (Path(place) / name for name in names if name.endswith(".py"))


def ground_floor() -> list[Path]:
    folders = [path for name in GROUND_FOLDERS for path in files_below(HOUSE / name)]
    return [HOUSE / f"{name}.py" for name in READING_ORDER] + sorted(folders)


def upper_floors() -> list[Path]:
    return sorted(path for name in UPPER_FLOORS for path in files_below(HOUSE / name))


def name_of(path: Path) -> str:
    return path.relative_to(HOUSE).as_posix()


GROUND_FLOOR = [pytest.param(path, id=name_of(path)) for path in ground_floor()]
WHOLE_HOUSE = [pytest.param(path, id=name_of(path)) for path in ground_floor() + upper_floors()]
ROOT_FILES = GROUND_FLOOR[: len(READING_ORDER)]


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_by(tree: ast.AST, folder: str = "") -> set[str]:
    """The first part of every module that is imported, at the top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            own = folder if node.level == 1 else ".." * (node.level > 1)
            found.add(own or str(node.module).partition(".")[0])
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            found |= {
                value.value.partition(".")[0]
                for value in node.args[:1]
                if isinstance(value, ast.Constant) and isinstance(value.value, str)
            }
    return found


def called(node: ast.Call) -> str:
    """print for print(...), load for torch.load(...)."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def commands() -> dict[str, tuple[str, str]]:
    """main.py's COMMANDS, read without importing it."""
    return next(ast.literal_eval(n.value) for n in parsed(HOUSE / "main.py").body if is_table(n))


def is_table(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMMANDS"


# What stands where --------------------------------------------------------------------------


def test_the_root_holds_the_thirteen_files_and_no_other():
    assert sorted(path.stem for path in HOUSE.glob("*.py")) == sorted(READING_ORDER)


def test_no_file_is_a_drawer_for_everything():
    drawers = {"utils.py", "common.py", "helpers.py", "misc.py"}
    assert [name_of(path) for path in files_below(HOUSE) if path.name in drawers] == []


@pytest.mark.parametrize("path", ROOT_FILES)
def test_every_header_ends_with_its_neighbours(path: Path):
    last = (ast.get_docstring(parsed(path)) or "").rpartition("\n")[2]
    match = re.fullmatch(r"Previous: (.+)\.  Next: (.+)\.", last)
    assert match, f"{path.name} ends its header with: {last}"
    place = READING_ORDER.index(path.stem)
    if place > 0:
        assert f"{READING_ORDER[place - 1]}.py" in f"{match[1]}."
    if path.stem != "main":
        assert f"{READING_ORDER[place + 1]}.py" in f"{match[2]}."


# Who imports whom ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", GROUND_FLOOR)
def test_the_ground_floor_imports_only_what_is_read_before(path: Path):
    folder = path.parent.name if path.parent != HOUSE else ""
    foreign = imported_by(parsed(path), folder) - set(sys.stdlib_module_names) - THIRD_PARTY
    assert foreign - allowed_imports(path) == set()


def test_upper_floors_import_the_ground_floor_and_their_allowed_neighbours():
    own = {*READING_ORDER, *UPPER_FLOORS, *GROUND_FOLDERS, "tests"}
    for path in upper_floors():
        inside = imported_by(parsed(path), path.parent.name) & own
        assert inside - allowed_imports(path) == set(), name_of(path)


def test_imports_are_found_wherever_they_stand():
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
    assert imported_by(ast.parse(text), "own") == {*"acehj", "importlib", "own", ".."}


def test_main_knows_upper_floors_only_as_strings_in_its_table():
    tree = parsed(HOUSE / "main.py")
    for name, (target, line) in commands().items():
        assert re.fullmatch(r"[a-z_]+(\.[a-z_]+)*:[a-z_]+", target), name
        assert target.split(":")[0].split(".")[0] in ("main", *UPPER_FLOORS), name
        assert line and "\n" not in line
    table = next(node for node in tree.body if is_table(node))
    inside = set(ast.walk(table))
    modules = re.compile(rf"({'|'.join(UPPER_FLOORS)})[.:]\w+")
    strings = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside
    ]
    assert [text for text in strings if modules.fullmatch(text)] == []


def test_a_class_of_the_ground_floor_is_defined_once():
    def classes(path: Path) -> list[str]:
        return [node.name for node in ast.walk(parsed(path)) if isinstance(node, ast.ClassDef)]

    ground = [name for path in ground_floor() for name in classes(path)]
    assert len(ground) == len(set(ground))
    others = [path for path in upper_floors() if HOUSE / "exercises" not in path.parents]
    assert [name for path in others for name in classes(path) if name in ground] == []


# What is never written ----------------------------------------------------------------------


def forbidden(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            found.append(f"from {node.module} import *")
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in ("exec", "eval", "torch.load", "torch.save") and not opens_tensors(node):
                found.append(name)
            unpickles = [k for k in node.keywords if k.arg == "allow_pickle"]
            found += ["allow_pickle" for k in unpickles if ast.unparse(k.value) != "False"]
    picklers = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom | ast.Call)]
    others = [n for n in imports if ast.unparse(n) != "from pickle import UnpicklingError"]
    return found + sorted({name for n in others for name in imported_by(n)} & picklers)


def opens_tensors(call: ast.Call) -> bool:
    """torch.load(..., weights_only=True), which opens foreign .bin files and runs no code."""
    told = [ast.unparse(k.value) for k in call.keywords if k.arg == "weights_only"]
    return ast.unparse(call.func) == "torch.load" and told == ["True"]


@pytest.mark.parametrize("path", WHOLE_HOUSE)
def test_no_pickle_no_exec_no_eval_no_star(path: Path):
    assert forbidden(parsed(path)) == []


def test_what_is_forbidden_is_found():
    text = "from a import *; eval('1'); torch.load(f); np.load(f, allow_pickle=True)\nimport pickle"
    assert len(forbidden(ast.parse(text))) == 5
    assert forbidden(ast.parse("model.eval(); np.load(f, allow_pickle=False)")) == []
    assert forbidden(ast.parse("torch.load(f, weights_only=flag)")) == ["torch.load"]
    assert forbidden(ast.parse("from pickle import loads, UnpicklingError")) == ["pickle"]
    told = "from pickle import UnpicklingError; torch.load(f, weights_only=True)"
    assert forbidden(ast.parse(told)) == []


@pytest.mark.parametrize("path", WHOLE_HOUSE)
def test_only_commands_print(path: Path):
    module = name_of(path).removesuffix(".py").replace("/", ".")
    if module in {target.split(":")[0] for target, _ in commands().values()}:
        return
    calls = [n for n in ast.walk(parsed(path)) if isinstance(n, ast.Call)]
    prints = [n.lineno for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]
    assert prints == []


# Shape comments are true --------------------------------------------------------------------

# No two are equal. 8 positions are in the cache, 3 are new: S = 11.
SIZES: dict[str, int | None] = {
    "B": 2, "T": 3, "S": 11, "C": 35, "H": 5, "D": 7, "F": 140, "V": 13,
}  # fmt: skip


def model_of_unequal_sizes() -> gpt2.GPT2Model:
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=13, context_length=17, n_layer=1, n_head=5, n_embd=35, dropout=0.0
    )
    return gpt2.GPT2Model(config).eval()


def test_shape_comments_of_the_model_are_true():
    assert len(set(SIZES.values())) == len(SIZES)
    model = model_of_unequal_sizes()
    tokens = torch.randint(13, (2, 11))
    modules = [
        gelu, layer_norm, feedforward, multiheadattention, transformer_block, gpt2, loss
    ]  # fmt: skip
    comments = ShapeComments(modules, SIZES)
    for explicit in (False, True):
        cache = model.new_cache(2)
        model(tokens[:, :8], cache)
        with comments:
            if explicit:
                with multiheadattention.explicit_attention():
                    logits = model(tokens[:, 8:], cache)
            else:
                logits = model(tokens[:, 8:], cache)
            loss.next_token_loss(logits, tokens[:, 8:])
            for layer in cache:
                layer.set_lengths([8, 5])
            model(tokens[:, 8:], cache)
            hidden_states = model.hidden_states(tokens[:, 8:])
            loss.head_loss(hidden_states, model.lm_head.weight, tokens[:, 8:])
    assert comments.mistakes == []
    assert comments.unseen == []
    assert len(comments.claims) >= 20


def test_shape_comments_of_generation_are_true():
    model = model_of_unequal_sizes()
    # the text grows from token to token, so T is any number
    modules = [generation, decoding.batch, decoding.choice, decoding.filters]
    comments = ShapeComments(modules, SIZES | {"T": None})
    every_filter = generation.SamplingConfig(
        max_new_tokens=14, min_new_tokens=14, temperature=1.0, top_k=5, top_p=0.9, min_p=0.01,
        repetition_penalty=1.1, presence_penalty=0.1, no_repeat_ngram=4,
        logit_bias=((3, 0.5),), banned=((3, 4),), stop_tokens=(6,),
    )  # fmt: skip
    greedy = generation.SamplingConfig(max_new_tokens=14, temperature=0)
    with comments:
        for sampling in (every_filter, greedy):
            generation.generate(model, [[1, 2, 3, 4]] * 2, sampling)
            empty: list[list[int]] = [[], []]
            decoding.choice.distribution(torch.zeros(2, 13), empty, empty, sampling)
    assert comments.mistakes == []
    assert comments.unseen == []
    assert len(comments.claims) >= 8


EXAMPLE = '''
import torch


def right(x):
    """(B, T, C) -> (B, T, V). Two lines, two names, a tail."""
    a, b = x.split(
        [5, 30], dim=-1
    )
    y = x.transpose(1, 2)  # (B, C, T)
    for _ in range(2):
        z = y.sum(dim=1, keepdim=True)  # (..., 1, T)
    return z.new_zeros(2, 3, 13)  # (B, T, V)


def wrong(x):
    """(B, C, T) -> (B, T)."""
    y = x.transpose(1, 2)  # (B, T, C)
    a, b = x[0], x  # (T, C)
    z = x.shape  # (B, T, C)
    w = x.flatten()  # (B, X)
    return x  # (B, T)


def wrong_by_coincidence(x):
    return x[:, :1]  # (B, 2, C)


def never(x):
    return x  # (B, T, C)
'''


def module_from(path: Path, text: str) -> ModuleType:
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_wrong_shape_comment_is_found(tmp_path: Path):
    example = module_from(tmp_path / "example.py", EXAMPLE)
    lines = {text.strip(): n for n, text in enumerate(EXAMPLE.split("\n"), start=1)}
    x = torch.zeros(2, 3, 35)
    comments = ShapeComments([example], SIZES)
    with comments:
        example.right(x)
    assert comments.mistakes == []
    with comments:
        example.wrong(x)
        example.wrong_by_coincidence(x)
    assert comments.mistakes == [
        f"example.py:{lines['def wrong(x):']}: takes (2, 3, 35), not (B, C, T)",
        f"example.py:{lines['y = x.transpose(1, 2)  # (B, T, C)']}: has (2, 35, 3), not (B, T, C)",
        # the first name fits, the second does not
        f"example.py:{lines['a, b = x[0], x  # (T, C)']}: has (2, 3, 35), not (T, C)",
        f"example.py:{lines['z = x.shape  # (B, T, C)']}: has a Size, not (B, T, C)",
        f"example.py:{lines['w = x.flatten()  # (B, X)']}: has (210,), not (B, X)",
        f"example.py:{lines['return x  # (B, T)']}: has (2, 3, 35), not (B, T)",
        f"example.py:{lines['def wrong(x):']}: returns (2, 3, 35), not (B, T)",
        f"example.py:{lines['return x[:, :1]  # (B, 2, C)']}: has (2, 1, 35), not (B, 2, C)",
    ]
    assert comments.unseen == [f"example.py:{lines['return x  # (B, T, C)']}"]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("cache.append(k, v)  # (B, H, S, D)", "cache.append(k, v)  # (B, H, T, D)"),
        ("(q, k, v))  # (B, H, T, D)", "(q, k, v))  # (B, T, H, D)"),
        ("# (T, S)", "# (S, T)"),
    ],
)
def test_a_shape_comment_of_the_model_made_wrong_is_found(tmp_path: Path, right: str, wrong: str):
    text = Path(str(multiheadattention.__file__)).read_text(encoding="utf-8")
    assert right in text
    module = module_from(tmp_path / "changed.py", text.replace(right, wrong))
    config = model_of_unequal_sizes().config
    layer, cache = module.MultiHeadAttention(config), module.KVCache(config, batch_size=2)
    layer(torch.zeros(2, 8, 35), cache)
    with ShapeComments([module], SIZES) as comments, module.explicit_attention():
        layer(torch.zeros(2, 3, 35), cache)
    assert any(wrong[wrong.index("# (") + 2 :] in mistake for mistake in comments.mistakes)


# The ground floor stands alone --------------------------------------------------------------


def run_alone(house: Path, *arguments: str) -> str:
    """Runs main.py in a copy of the ground floor -> what it wrote."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "main.py", *arguments],
        cwd=house,
        env=environment | {"PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_ground_floor_trains_and_writes_without_any_upper_floor(tmp_path: Path):
    for path in ground_floor():
        copy = tmp_path / path.relative_to(HOUSE)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)
    text = "".join(f"{n} times {n} is {n * n}.\n" for n in range(300))
    (tmp_path / "squares.txt").write_text(text, encoding="utf-8")
    sizes = {
        "model.n-layer": 1, "model.n-head": 2, "model.n-embd": 32, "model.context-length": 16,
        "train.max-steps": 2, "train.batch-size": 2, "data.tokenizer": "char",
        "data.path": "squares.txt",
    }  # fmt: skip
    flags = [part for name, value in sizes.items() for part in (f"--{name}", str(value))]
    run_alone(tmp_path, "train", "--out", "runs/alone", *flags)
    assert (tmp_path / "runs" / "alone" / gpt2.WEIGHTS_FILE).is_file()
    written = run_alone(
        tmp_path, "generate", "runs/alone", "--prompt", "7 times", "--max-new-tokens", "5"
    )
    assert written.startswith("7 times")
