"""The files that start a run on a cluster: what can be checked without one."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from commands.train_settings import read_train_command
from preparation.settings import read_prepare_command

ROOT = Path(__file__).parent.parent
SLURM, SKYPILOT = ROOT / "deploy" / "slurm.sh", ROOT / "deploy" / "skypilot.yaml"


def test_the_slurm_script_is_bash_and_asks_for_a_signal_before_its_time_is_over() -> None:
    subprocess.run(["bash", "-n", SLURM], check=True)
    assert os.access(SLURM, os.X_OK)
    options = re.findall(r"^#SBATCH --([\w-]+)=?(\S*)", SLURM.read_text(), flags=re.MULTILINE)
    assert {"nodes", "ntasks-per-node", "signal", "time"} <= dict(options).keys()
    assert dict(options)["ntasks-per-node"] == "1"  # torchrun starts the processes of a node
    before_srun = SLURM.read_text().partition("\nsrun")[0]
    assert "export SRUN_CPUS_PER_TASK=" in before_srun  # srun does not take it over from sbatch


def test_the_batch_script_gives_srun_the_cores_that_sbatch_was_asked_for(tmp_path: Path) -> None:
    """With commands of these names that only say what they were given, the script runs here."""
    said = '#!/bin/bash\necho "$SRUN_CPUS_PER_TASK" "$@" >> "$SAID"\n'
    for name, text in {"srun": said, "scontrol": "#!/bin/bash\necho node1\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    slurm = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "SAID": str(tmp_path / "said"),
        "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_CPUS_PER_TASK": "64", "SLURM_NNODES": "2",
        "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_ID": "7",
    }  # fmt: skip
    subprocess.run(["bash", SLURM], env=slurm, check=True)
    (tmp_path / "runs" / "gpt2-slurm").mkdir(parents=True)
    (tmp_path / "runs" / "gpt2-slurm" / "config.json").touch()
    subprocess.run(["bash", SLURM], env=slurm, check=True)
    first, again = (tmp_path / "said").read_text().splitlines()
    assert first.startswith("64 ") and "--out runs/gpt2-slurm" in first
    assert again.endswith("main.py train --resume runs/gpt2-slurm")


@pytest.mark.parametrize("file", [SLURM, SKYPILOT], ids=lambda path: path.name)
def test_the_data_are_prepared_by_flags_that_there_are(file: Path) -> None:
    (line,) = re.findall(r"^#   python main.py (prepare .+)$", file.read_text(), re.MULTILINE)
    command, *flags = shlex.split(line)
    assert command == "prepare"
    assert read_prepare_command(flags).out == Path("shards")


def test_the_skypilot_file_is_yaml_and_its_scripts_are_shell() -> None:
    task = yaml.safe_load(SKYPILOT.read_text(encoding="utf-8"))
    assert task["num_nodes"] == 1  # a bucket is no file system that several machines share
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
