"""The GitHub workflow covers what README.md and pyproject.toml promise, and may change nothing."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
JOBS: dict[str, dict] = WORKFLOW["jobs"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def matrix(job: str) -> dict:
    return JOBS[job]["strategy"]["matrix"]


def commands(job: str) -> list[str]:
    """The `run` lines of a job's steps, with Windows paths written as on the other systems."""
    lines = [line for step in JOBS[job]["steps"] for line in step.get("run", "").splitlines()]
    return [line.replace("\\", "/").replace(".venv/Scripts/", ".venv/bin/") for line in lines]


def test_every_system_of_the_readme_is_tested() -> None:
    assert "on Linux or macOS" in README and "On Windows" in README
    systems = {name.split("-")[0] for job in JOBS for name in matrix(job).get("os", [])}
    assert systems == {"ubuntu", "macos", "windows"}


def test_the_oldest_and_the_newest_python_are_tested_on_every_system() -> None:
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert f"Python {oldest} or later" in README
    newest = re.search(r"Python ([\d.]+) to ([\d.]+)\.", MAKEFILE)
    assert newest and newest[1] == oldest
    for job in ("make-test", "windows", "imports"):
        assert matrix(job)["python"] == [oldest, newest[2]], job


def test_the_oldest_and_the_newest_pytorch_are_tested() -> None:
    (oldest,) = re.findall(r"^torch>=([\d.]+)$", "\n".join(PROJECT["dependencies"]), re.MULTILINE)
    assert [row["torch"] for row in matrix("torch")["include"]] == [f"=={oldest}.*", f">={oldest}"]


def test_windows_runs_what_the_readme_names_and_then_what_make_test_runs() -> None:
    ran = commands("windows")
    block = re.search(r"```\npy (-m venv .*?)```", README, flags=re.DOTALL)
    assert block
    named = ["python " + block[1].splitlines()[0], *block[1].splitlines()[1:]]
    for line, stated in zip(ran, named, strict=False):
        assert line.startswith(stated.replace("\\", "/").replace("Scripts", "bin"))
    lint = MAKEFILE.partition("\nlint:")[2].partition("\n\n")[0]
    modules = re.findall(r"\$\(PYTHON\) (-m .+)", lint)
    assert modules
    for line in modules:
        wanted = f".venv/bin/python {line}".replace("$(PYTHON)", ".venv/bin/python.exe")
        assert wanted in ran
    assert ran[-1] == ".venv/bin/python -m pytest"


def test_the_other_jobs_run_the_tests_and_import_every_root_module() -> None:
    assert commands("make-test") == ["make test"]
    assert commands("torch")[-1] == ".venv/bin/python -m pytest"
    loop = commands("imports")[1:]
    assert loop[0] == "for file in *.py; do"
    assert any('-c "import ${file%.py}"' in line for line in loop)


@pytest.mark.parametrize("job", JOBS)
def test_every_action_is_pinned_to_a_commit(job: str) -> None:
    for step in JOBS[job]["steps"]:
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), step
    python = next(step["with"] for step in JOBS[job]["steps"] if "python" in step.get("uses", ""))
    assert python["cache"] == "pip" and (ROOT / python["cache-dependency-path"]).is_file()


def test_the_workflow_can_read_and_nothing_else() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in JOBS.values())
    assert "pull_request_target" not in WORKFLOW[True]  # YAML 1.1 reads the key `on` as true


@pytest.mark.parametrize("job", ["make-test", "torch", "imports"])
def test_the_scripts_for_linux_and_macos_are_bash(job: str) -> None:
    text = "\n".join(commands(job))
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
