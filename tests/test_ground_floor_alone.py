"""With every upper floor deleted, `python main.py` still trains and generates."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from oracles.source_tree import ROOT, ground_floor

from run_directory.weights import WEIGHTS_FILE


def run_alone(root: Path, *arguments: str) -> str:
    """Runs main.py in a copy of the ground floor -> what it wrote."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "main.py", *arguments],
        cwd=root,
        env=environment | {"PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_ground_floor_trains_and_writes_without_any_upper_floor(tmp_path: Path) -> None:
    for path in ground_floor():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
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
    assert (tmp_path / "runs" / "alone" / WEIGHTS_FILE).is_file()
    written = run_alone(
        tmp_path, "generate", "runs/alone", "--prompt", "7 times", "--max-new-tokens", "5"
    )
    assert written.startswith("7 times")
