"""The plain fp32 model of a served run, for what the engine's model cannot show.

The engine's model may be rounded, quantized or compiled, which hooks pass by; the X-ray and the
snapshots of a run need the plain one. It is opened at the first question; the last two are kept.
Previous: world_verdict.py.  Next: text_xray.py.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from cfg_gpt2 import require
from gpt2 import GPT2Model
from multiheadattention import MultiHeadAttention
from run_directory.weights import WEIGHTS_FILE
from serving.errors import ApiError
from training.snapshots import load_snapshot, steps_in

PATIENCE = 30.0  # seconds that a question waits for the one before it
COMPUTES = threading.Lock()  # held by the question that is computed: one at a time


@lru_cache(maxsize=2)
def load_cached(folder: Path, step: int | None, changed: int) -> GPT2Model:
    """Returns the model of a run, or of its snapshot; `changed` is when its file was written."""
    return GPT2Model.load(folder) if step is None else load_snapshot(folder, step)


def written_at(folder: Path) -> int:
    """Returns when the weights of a run were written, in nanoseconds."""
    return (folder / WEIGHTS_FILE).stat().st_mtime_ns


@contextmanager
def plain_model(folder: Path, step: int | None = None) -> Iterator[GPT2Model]:
    """Holds the model of a run, or of its snapshot of a step, for one question alone.

    Raises ApiError where the question before it takes too long or there is no such snapshot.
    """
    steps = steps_in(folder)
    if step is not None and step not in steps:
        there = ", ".join(map(str, steps)) or "none"
        raise ApiError(404, f"no snapshot of step {step}; there are: {there}", param="step")
    if not COMPUTES.acquire(timeout=PATIENCE):
        raise ApiError(
            429,
            f"another question has been computed for {PATIENCE:.0f} s; ask again",
            headers={"retry-after": "5"},
        )
    try:
        changed = written_at(folder) if step is None else 0
        yield load_cached(folder, step, changed)
    finally:
        COMPUTES.release()


def keep_to_fused_attention(model: GPT2Model) -> None:
    """Makes a served model run the fused kernel also while a plain one beside it is looked into.

    explicit_attention() holds for the whole process, and rounds differently: without this the text
    of one user would depend on the X-ray of another.
    """
    for module in model.modules():
        if type(module) is MultiHeadAttention:
            vars(module)["attend_explicit"] = module.attend_fused


def require_tokens(model: GPT2Model, tokens: list[int], room: int = 0) -> None:
    """Raises ValueError unless a model can read tokens and so many more behind them."""
    sizes = model.config
    require(len(tokens) > 0, "the text is empty; give at least one token")
    require(
        len(tokens) + room <= sizes.context_length,
        f"{len(tokens)} tokens and {room} more do not fit context_length "
        f"{sizes.context_length}; shorten the text",
    )
    require(
        min(tokens) >= 0 and max(tokens) < sizes.vocab_size,
        f"token ids lie from 0 to {sizes.vocab_size - 1}; tokenize the text with this model",
    )
