"""`train --resume RUN`: what is known before the data are opened: whether RUN can go on at all.

Previous: init_from.py.  Next: suggest_prompt.py.
"""

from pathlib import Path

from rich.console import Console
from safetensors import SafetensorError, safe_open

from cfg_gpt2 import require
from commands.train_settings import TrainCommand
from run_directory.config_file import read_config
from run_directory.weights import WEIGHTS_FILE
from training.best_checkpoint import read_tensors
from training.checkpoint import FOLDER, Record, has_checkpoint, paths_in, read_record

SAMPLES_FILE = "samples.txt"  # the last file that a finished run writes
LAST_NORM = "final_norm.weight"  # a small tensor that every step changes


def finished_step(command: TrainCommand) -> int | None:
    """Returns the step at which a run to be resumed has done all that is asked; None: it goes on.

    Raises ValueError as newest_checkpoint does.
    """
    run = command.resume
    assert run is not None
    begin = f"train --init-from {run} --data.path TEXT"
    newest = newest_checkpoint(run, command.train.max_steps, begin)
    if newest is None or newest[1].step < command.train.max_steps:
        return None
    checkpoint, record = newest
    is_complete = (run / SAMPLES_FILE).exists() and has_weights_of(run, checkpoint)
    return record.step if is_complete else None


def say_finished(run: Path, step: int, console: Console) -> int:
    """Says that a run has done all its steps, and how it trains on; returns 0."""
    console.print(
        f"{run} is finished: step {step} of {step}. Nothing was done; to train on, give it more "
        f"steps, such as --train.max-steps {2 * step}"
    )
    return 0


def at_new_place(
    error: FileNotFoundError, resume: Path | None, flag: str, paths: tuple[str, ...]
) -> FileNotFoundError:
    """Returns an error with how a run to be resumed finds its data, where these are missing."""
    if resume is None or not str(error).startswith(paths):
        return error
    return FileNotFoundError(
        f"{error}; what has moved is found with --resume {resume} {flag} and its new place"
    )


def newest_checkpoint(run: Path, asked: int, begin: str) -> tuple[Path, Record] | None:
    """Returns where a run to be resumed goes on, with its record; None: at its beginning.

    asked is its number of steps, begin the command that begins another run with its weights.
    Raises ValueError for a run that cannot go on: an imported one, or one that is further already.
    """
    require(
        has_checkpoint(run) or not (run / WEIGHTS_FILE).exists(),
        f"{run} has weights and no checkpoint to go on from, as an imported model has; begin "
        f"another run with these weights: {begin}",
    )
    newest = next(iter(paths_in(run / FOLDER)), None)
    record = read_record(newest) if newest else None
    if newest is None or record is None:
        return None
    planned = read_config(run).train.max_steps
    require(
        record.step <= asked or asked == planned,
        f"--train.max-steps {asked} lies before step {record.step}, which {run} has reached; give "
        "more steps, or leave it out",
    )
    return newest, record


def has_weights_of(run: Path, checkpoint: Path) -> bool:
    """Returns whether model.safetensors holds the weights of a checkpoint, not earlier ones."""
    try:
        with safe_open(run / WEIGHTS_FILE, framework="pt") as opened:
            weight = opened.get_tensor(LAST_NORM)
        saved = read_tensors(checkpoint, f"model/{LAST_NORM}")
    except (SafetensorError, ValueError, OSError):
        return False
    return bool((weight == saved[f"model/{LAST_NORM}"]).all())
