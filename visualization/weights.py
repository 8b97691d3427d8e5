"""The weights that are inspected: the newest, the best, or those of a step that was kept.

Previous: command.py.  Next: capture.py.
"""

from pathlib import Path

from cfg_gpt2 import require
from gpt2 import GPT2Model
from run_directory.config_file import read_config
from training.best_checkpoint import load_best, load_checkpoint
from training.checkpoint import FOLDER, paths_in, step_of, verified
from training.snapshots import load_snapshot, steps_in


def load_weights(
    run_dir: Path, *, best: bool = False, step: int | None = None
) -> tuple[GPT2Model, int | None]:
    """Returns a run's model in fp32 on the CPU, and the step of its weights, where it is known.

    Training writes the newest weights with each checkpoint, so they have the newest one's step.

    Raises FileNotFoundError where a file is missing, ValueError where it is damaged or no weights
    of the step were kept.
    """
    if best:
        model, record = load_best(run_dir)
        return model, record.step
    kept = {step_of(path): path for path in paths_in(run_dir / FOLDER)}
    if step is None:
        return GPT2Model.load(run_dir), max(kept, default=None)
    read_config(run_dir)  # the right error for a folder that is no run
    snapshots = steps_in(run_dir)
    steps = ", ".join(map(str, sorted({*kept, *snapshots}))) or "none"
    if step in snapshots and step not in kept:
        return load_snapshot(run_dir, step), step
    require(step in kept, f"--checkpoint {step} was not kept in {run_dir}; there are: {steps}")
    try:
        record = verified(kept[step])
    except ValueError as error:
        raise ValueError(f"{kept[step]} is damaged: {error}; choose one of {steps}") from None
    return load_checkpoint(run_dir, kept[step], record), step
