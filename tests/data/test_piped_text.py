"""Pipes: a text that can be read once is kept as a file, and the same text has one file."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from oracles.corpora import PROSE, write

from cfg_gpt2 import DataConfig
from data.piped_text import keep_piped
from diagnostics.plan.text_size import measure_text

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="has no named pipes in folders")


def fill(pipe: Path, content: bytes) -> threading.Thread:
    """Writes into a pipe beside whoever reads it."""
    writer = threading.Thread(target=lambda: pipe.write_bytes(content))
    writer.start()
    return writer


def test_a_pipe_becomes_a_file_that_is_named_by_its_content(tmp_path: Path) -> None:
    pipe, cache = tmp_path / "pipe", str(tmp_path / "cache")
    os.mkfifo(pipe)
    kept = []
    for content in (PROSE, PROSE, PROSE * 2):
        writer = fill(pipe, content.encode())
        kept += keep_piped([str(pipe)], cache)
        writer.join()
    assert kept[0] == kept[1] != kept[2]
    assert Path(kept[2]).read_text() == PROSE * 2
    assert len(os.listdir(cache)) == 2
    assert keep_piped(["tiny-world", "*.txt", "no.txt"], cache) == ("tiny-world", "*.txt", "no.txt")


def test_plan_measures_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = fill(tmp_path / "pipe", PROSE.encode())
    data = DataConfig(path=(str(tmp_path / "pipe"),), cache_dir=str(tmp_path / "cache"))
    assert measure_text(data).n_bytes == int(len(PROSE) * 0.9)
    writer.join()


def test_a_pipe_without_text_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = fill(tmp_path / "pipe", b"")
    with pytest.raises(ValueError, match="pipe has given no text; name a file"):
        keep_piped([str(tmp_path / "pipe")], str(tmp_path / "cache"))
    writer.join()
    assert os.listdir(tmp_path / "cache") == []


SCRIPT = """
import sys
from data.piped_text import keep_piped
for path in keep_piped(sys.argv[1:], "CACHE"):
    print(path, len(open(path).read()))
"""


def test_standard_input_and_process_substitution_are_read(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", PROSE)
    script = write(tmp_path / "s.py", SCRIPT.replace("CACHE", str(tmp_path / "cache")))
    run = f"PYTHONPATH={ROOT} {sys.executable} {script}"
    commands = f"""
        {run} - < {file}
        cat {file} | {run} -
        {run} /dev/stdin <<< "$(cat {file})"
        {run} <(cat {file}) <(cat {file} {file})
        {run} - <&-
    """
    done = subprocess.run(["bash", "-c", commands], capture_output=True, text=True)
    lines = done.stdout.split("\n")
    assert lines[0] == f"{file} {len(PROSE)}"  # a file, which needs no copy
    assert lines[1] == lines[3] and lines[1].endswith(f" {len(PROSE)}")
    assert lines[2].endswith(f" {len(PROSE.rstrip()) + 1}")
    assert lines[4].endswith(f" {2 * len(PROSE)}")
    assert "/dev/stdin" in done.stderr.split("\n")[-2] and "Error: " in done.stderr.split("\n")[-2]
