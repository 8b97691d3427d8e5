"""TensorBoardLog: the metrics of a run as scalars for TensorBoard, beside metrics.jsonl.

    tensorboard --logdir runs

shows the runs in a browser. The package is an extra: pip install -e ".[tensorboard]".
Previous: validation_curve.py.  Next: stop_signal.py.
"""

import math
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cfg_gpt2 import require

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TENSORBOARD_FOLDER = "tensorboard"


def require_tensorboard() -> None:
    """Raises ValueError where the package tensorboard is not installed."""
    require(
        find_spec("tensorboard") is not None,
        "--train.tensorboard needs the package tensorboard, which is not installed; install it "
        'with pip install -e ".[tensorboard]", or leave it out: metrics.jsonl has the same figures',
    )


class TensorBoardLog:
    """Writes metrics as scalars. The first step that is added hides later ones of earlier files."""

    def __init__(self, run_dir: Path) -> None:
        require_tensorboard()
        self.folder = run_dir / TENSORBOARD_FOLDER
        self._writer: SummaryWriter | None = None

    def append(self, metrics: dict[str, float]) -> None:
        """Adds the metrics of a step, each as a scalar by its name."""
        step = int(metrics["step"])
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # a second, for those who ask for it

            self._writer = SummaryWriter(str(self.folder), purge_step=step)
        for name, value in metrics.items():
            if name != "step" and math.isfinite(value):
                self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Waits until the files hold everything that was added."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Ends the file. What is added later goes to another one and replaces the same steps."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None
