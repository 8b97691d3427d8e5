"""The best weights of a run: those of the checkpoint with the lowest validation loss.

model.safetensors holds the newest weights. Training keeps the best checkpoint beside the newest
ones, so the best weights are still there where a run has gone on for too long.
Previous: sharded_checkpoint.py.  Next: snapshots.py.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from torch import Tensor

from gpt2 import GPT2Model
from run_directory.config_file import read_config
from run_directory.weights import assign_weights, on_meta_device
from training.checkpoint import (
    FOLDER,
    TENSORS_FILE,
    Record,
    best_of,
    paths_in,
    read_checkpoint,
    read_record,
    strip_prefix,
    verified,
)
from training.units import units_of

WITH_FROZEN = "finetuning.best_adapter:merged_with_base"  # an upper floor, known by name only


def load_newest_or_best(
    run_dir: Path, *, best: bool, report: Callable[[str], object]
) -> tuple[GPT2Model, Record | None]:
    """Returns a run's model with the newest weights, or with the best ones and their record.

    `report` gets a line about the best weights. Raises as GPT2Model.load and load_best do.
    """
    if not best:
        return GPT2Model.load(run_dir), None
    model, record = load_best(run_dir)
    unit = units_of(run_dir).loss
    report(f"weights of step {record.step}, validation loss {record.val_loss:.4f} {unit}")
    return model, record


def load_best(run_dir: Path) -> tuple[GPT2Model, Record]:
    """Returns a model with the best weights, fp32, CPU, dropout off, and its checkpoint's record.

    Raises FileNotFoundError where the run has no such checkpoint, ValueError where it is damaged.
    """
    path, record = best_checkpoint(run_dir)
    return load_checkpoint(run_dir, path, record), record


def load_checkpoint(run_dir: Path, path: Path, record: Record) -> GPT2Model:
    """Returns a model with the weights of a checkpoint: fp32, CPU, dropout off.

    Raises ValueError where they cannot be read.
    """
    weights = strip_prefix("model/", read_tensors(path, "model/"))
    with on_meta_device():
        model = GPT2Model(record.identity.model)
    if not weights.keys() >= {name for name, _ in model.named_parameters()}:
        weights = with_frozen(run_dir, weights)
    assign_weights(model, weights)
    return model.float().eval()


def with_frozen(run_dir: Path, trained: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns a plain model's weights from those that were trained beside frozen ones."""
    module, _, function = WITH_FROZEN.partition(":")
    return getattr(import_module(module), function)(run_dir, trained)


def read_tensors(checkpoint: Path, prefix: str) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint whose names begin with a prefix, whoever wrote it.

    Raises ValueError where they cannot be read.
    """
    if (checkpoint / TENSORS_FILE).exists():
        return read_checkpoint(checkpoint, prefix)
    from training.sharded_checkpoint import read_shards  # a second, for one process's run

    return read_shards(checkpoint, {}, prefix)


def best_checkpoint(run_dir: Path) -> tuple[Path, Record]:
    """Returns the folder and the record of the best checkpoint, whose files are whole.

    Raises as load_best does.
    """
    read_config(run_dir)  # the right error for a folder that is no run
    records = {path: read_record(path) for path in paths_in(run_dir / FOLDER)}
    best = best_of({path: record for path, record in records.items() if record})
    if best is None:
        raise FileNotFoundError(
            f"--best: {run_dir} has no checkpoint with a validation loss, as a run has after its "
            "first evaluation and an imported model never has; leave out --best"
        )
    try:
        return best, verified(best)
    except ValueError as error:
        raise ValueError(
            f"--best: {best} is damaged ({error}); leave out --best for the newest weights"
        ) from None
