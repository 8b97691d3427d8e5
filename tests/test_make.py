"""The Makefile and make.ps1: the same targets, wheels instead of a network, one clear sentence."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
POWERSHELL = (ROOT / "make.ps1").read_text(encoding="utf-8")
SENTENCE = "pip could not get the packages; on a machine without a network"

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not here")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the files that an installation reads, and a Python that installs nothing."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho python "$@"\ncase "$*" in *install*) exit 1;; esac\n')
    python.chmod(0o755)
    return tmp_path


def make(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=project, capture_output=True, text=True)


@needs_make
@pytest.mark.parametrize("target", ["run", "test"])
def test_without_packages_make_says_what_can_be_done(target: str, project: Path) -> None:
    done = make(project, target)
    assert done.returncode == 2
    assert done.stderr.count(SENTENCE) == 1
    assert "docs/classroom.md" in done.stderr


@needs_make
def test_a_folder_of_wheels_stands_for_the_network(project: Path) -> None:
    assert "--no-index" not in make(project, "-n", "run").stdout
    (project / "wheels").mkdir()
    assert "--no-index" not in make(project, "-n", "run").stdout  # an empty folder has nothing
    (project / "wheels" / "torch-2.13.0-cp311-cp311-linux_x86_64.whl").touch()
    line = "install --no-index --find-links wheels -c constraints.txt -e"
    assert f"{line} ." in make(project, "-n", "run").stdout
    assert f'{line} ".[test]"' in make(project, "-n", "test").stdout
    done = make(project, "run")  # asks no index for PyTorch's CPU build
    assert "--extra-index-url" not in done.stdout and "CPU build" not in done.stdout
    assert "--no-index" not in make(project, "-n", "wheels").stdout  # which fills it


def test_both_have_the_same_targets() -> None:
    phony = re.search(r"^\.PHONY: help (.+)$", MAKEFILE, re.MULTILINE)
    assert phony
    cases = re.findall(r'^    "(\w+)" \{', POWERSHELL, re.MULTILINE)
    assert sorted(cases) == sorted(phony[1].split())
    for text in (MAKEFILE, POWERSHELL):
        explained = re.findall(r"make(?:\.ps1)? (\w+) +\w", "\n".join(helped(text)))
        assert sorted(set(explained)) == sorted(cases)


def helped(text: str) -> list[str]:
    """The lines that `help` prints."""
    return [line for line in text.splitlines() if re.match(r'\s*(@echo|Write-Host) "make', line)]


def test_both_run_the_same_programs_and_say_the_same() -> None:
    wanted = re.findall(r"\$\(PYTHON\) -m (ruff \S+|ruff|pyright|pytest)", MAKEFILE)
    ran = re.findall(r"Invoke-Python -m (ruff \S+|ruff|pyright|pytest)", POWERSHELL)
    assert sorted(wanted) == sorted(ran) and len(ran) == 5
    assert SENTENCE in MAKEFILE and SENTENCE in POWERSHELL


def test_the_braces_and_quotes_of_the_powershell_file_are_balanced() -> None:
    code = "\n".join(line.partition("#")[0] for line in POWERSHELL.splitlines())
    assert code.count('"') % 2 == 0
    outside = re.sub(r'"[^"]*"', "", code)
    for opening, closing in ("{}", "()", "[]"):
        assert outside.count(opening) == outside.count(closing)


def test_the_powershell_file_explains_itself_without_a_target() -> None:
    """A pipeline without output is an empty collection, of which `switch` takes no branch."""
    assert "$Target = $args | Select-Object -First 1\n" in POWERSHELL
    assert re.findall(r"^switch \((.*?)\)", POWERSHELL, re.MULTILINE) == ['"$Target"']
