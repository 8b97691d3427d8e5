"""Snapshots: the weights alone, kept at steps that lie evenly on a logarithmic scale.

    step_i = max_steps^(i / (n - 1))     i = 0 ... n - 1, rounded; and step 0, before the first

Most of what a model learns it learns early, so early snapshots lie close together. Resuming does
not read them: a run takes the same steps with and without them.
Previous: best_checkpoint.py.  Next: background.py.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from gpt2 import GPT2Model
from run_directory.config_file import read_config
from run_directory.lock import PART
from run_directory.weights import load_model, write_tensors

FOLDER = "snapshots"
NAME = re.compile(r"step-(\d{6,})\.safetensors", re.ASCII)


def steps_of_snapshots(n: int, max_steps: int) -> list[int]:
    """Returns step 0 and n steps up to max_steps, or all of them where there are fewer than n.

    No two are equal: where the scale gives a step twice, the one after it is taken. Without
    snapshots (n = 0) there is no step 0 either.
    """
    n, steps = min(n, max_steps), [0]
    for i in range(n - 1):
        steps.append(max(steps[-1] + 1, round(max_steps ** (i / (n - 1)))))
    return [*steps, max_steps] if n else []


class Snapshots:
    """The snapshots of a run that is being trained."""

    def __init__(self, run_dir: Path, n: int, max_steps: int) -> None:
        self.run_dir, self.steps = run_dir, frozenset(steps_of_snapshots(n, max_steps))

    def write(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Writes the weights of a step, whole or not at all, as model.safetensors has them.

        Raises OSError where the file cannot be written.
        """
        tensors = {name: tensor.detach().contiguous() for name, tensor in weights.items()}
        write_tensors(self.run_dir / name_of(step), tensors)

    def keep_until(self, step: int) -> None:
        """Removes the snapshots of later steps, and what a killed run has left half-written."""
        for later in steps_in(self.run_dir):
            if later > step:
                (self.run_dir / name_of(later)).unlink()
        for unfinished in (self.run_dir / FOLDER).glob(f".step-*{PART}"):
            unfinished.unlink()


def name_of(step: int) -> str:
    """Returns a snapshot's place in its run: 64 -> snapshots/step-000064.safetensors."""
    return f"{FOLDER}/step-{step:06d}.safetensors"


def steps_in(run_dir: Path) -> list[int]:
    """Returns the steps of which a run has a snapshot, the first one first."""
    matches = (NAME.fullmatch(path.name) for path in (run_dir / FOLDER).glob("step-*"))
    return sorted(int(match[1]) for match in matches if match)


def load_snapshot(run_dir: Path, step: int) -> GPT2Model:
    """Returns the model of a snapshot: fp32, on the CPU, with dropout off.

    Raises FileNotFoundError where the run has no snapshot of this step, ValueError where its file
    is damaged.
    """
    read_config(run_dir)  # the right error for a folder that is no run
    steps = steps_in(run_dir)
    there = f"there are those of steps {', '.join(map(str, steps))}"
    if step not in steps:
        raise FileNotFoundError(
            f"{run_dir} has no snapshot of step {step}; "
            + (there if steps else "train with --train.snapshots 16 to have some")
        )
    return load_model(GPT2Model, run_dir, name_of(step))
