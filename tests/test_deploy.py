"""The files that start a run on a cluster: what can be checked without one."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from commands.train_settings import read_train_command

ROOT = Path(__file__).parent.parent
SLURM, SKYPILOT = ROOT / "deploy" / "slurm.sh", ROOT / "deploy" / "skypilot.yaml"


def test_the_slurm_script_is_bash_and_asks_for_a_signal_before_its_time_is_over() -> None:
    subprocess.run(["bash", "-n", SLURM], check=True)
    assert os.access(SLURM, os.X_OK)
    options = re.findall(r"^#SBATCH --([\w-]+)=?(\S*)", SLURM.read_text(), flags=re.MULTILINE)
    assert {"nodes", "ntasks-per-node", "signal", "time"} <= dict(options).keys()
    assert dict(options)["ntasks-per-node"] == "1"  # torchrun starts the processes of a node


def test_the_skypilot_file_is_yaml_and_its_scripts_are_shell() -> None:
    task = yaml.safe_load(SKYPILOT.read_text(encoding="utf-8"))
    assert task["num_nodes"] == 2
    assert set(task) <= {
        "name", "num_nodes", "resources", "workdir", "envs", "file_mounts", "setup", "run",
    }  # fmt: skip
    for part in ("setup", "run"):
        subprocess.run(["bash", "-n"], input=task[part], text=True, check=True)


@pytest.mark.parametrize("file", [SLURM, SKYPILOT], ids=lambda path: path.name)
def test_the_flags_of_a_run_that_begins_are_flags(file: Path) -> None:
    text = file.read_text(encoding="utf-8").replace("\\\n", " ")
    (flags,) = re.findall(r"(--out \"\$RUN\".*?--train.max-steps \d+)", text, flags=re.DOTALL)
    command = read_train_command(shlex.split(flags.replace("\n", " ")))
    assert command.train.strategy == "ddp" and command.preset == "gpt2"
