"""What the page shows of a run: its sizes, its curve, its settings, and texts of its snapshots.

Previous: text_xray.py.  Next: views.py.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from cfg_gpt2 import RunConfig
from commands.language import Language
from decoding.engine import complete
from decoding.settings import SamplingConfig
from run_directory.config_file import METRICS_FILE, read_config
from serving.plain_model import plain_model, require_tokens
from serving.runs import ServedRun
from serving.world_verdict import world_of
from tokenizer import Tokenizer
from training.progress import Metrics, parse_metrics
from training.snapshots import steps_in
from visualization.inspection import TokenText

MAX_POINTS = 1000  # of a curve; of a longer one every k-th line is sent, and each evaluation
SAMPLES_FILE = "samples.txt"
MAX_SAMPLES = 100_000  # characters of samples.txt, its newest


@dataclass(frozen=True)
class RunView:
    """A run as the page lists it."""

    name: str
    context_length: int
    n_layer: int
    n_head: int
    n_embd: int
    vocab_size: int
    end_of_text: int  # its token
    world: Language | None
    has_chat: bool
    snapshots: list[int]  # their steps
    has_metrics: bool


@dataclass(frozen=True)
class CurveView:
    """The lines of metrics.jsonl; None where there are no more than the page knows."""

    n: int  # all lines there are
    lines: list[Metrics] | None
    max_steps: int  # of the training


def run_view(run: ServedRun) -> RunView:
    """Returns what the page says about a run."""
    sizes = run.model.config
    return RunView(
        name=run.name,
        context_length=sizes.context_length,
        n_layer=sizes.n_layer,
        n_head=sizes.n_head,
        n_embd=sizes.n_embd,
        vocab_size=sizes.vocab_size,
        end_of_text=run.tokenizer.end_of_text,
        world=world_of(read_config(run.folder)),
        has_chat=run.chat is not None,
        snapshots=steps_in(run.folder),
        has_metrics=(run.folder / METRICS_FILE).exists(),
    )


def vocabulary(tokenizer: Tokenizer) -> list[TokenText]:
    """Returns what each token of a tokenizer stands for; an id without a token is "#id"."""
    return [token_view(tokenizer, id) for id in range(tokenizer.vocab_size)]


def token_view(tokenizer: Tokenizer, id: int) -> TokenText:
    """Returns what a token stands for."""
    try:
        data = tokenizer.token_bytes(id)
    except ValueError:
        return TokenText(f"#{id}")
    text = data.decode(errors="replace")
    return TokenText("", data.hex()) if "\ufffd" in text else TokenText(text)


def curve(directory: Path, known: int) -> CurveView:
    """Returns the curve of a run, thinned to about MAX_POINTS lines, unless it has `known` lines.

    A last line that is being written is left out. Raises ValueError for a damaged line.
    """
    file = directory / METRICS_FILE
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    stride, last = max(1, len(lines) // MAX_POINTS), len(lines) - 1
    kept = [
        parse_metrics(line, f"{METRICS_FILE}, line {i + 1},")
        for i, line in enumerate(lines)
        if len(lines) != known and (i % stride == 0 or b'"val_loss"' in line or i == last)
    ]
    return CurveView(
        n=len(lines),
        lines=None if len(lines) == known else kept,
        max_steps=read_config(directory).train.max_steps,
    )


def settings_of(directory: Path) -> dict[str, object]:
    """Returns the settings of a run as config.json has them, without paths of this machine."""
    settings = TypeAdapter(RunConfig).dump_python(read_config(directory), mode="json")
    return {part: settings[part] for part in ("model", "train")}


def samples(directory: Path) -> str:
    """Returns the newest samples that the run wrote while it was trained, "" for none."""
    file = directory / SAMPLES_FILE
    return file.read_text(encoding="utf-8")[-MAX_SAMPLES:] if file.exists() else ""


@dataclass(frozen=True)
class SnapshotText:
    """New tokens and the natural logarithm of the probability of each."""

    tokens: list[int]
    log_probabilities: list[float]


def continue_snapshot(
    run: ServedRun, step: int, tokens: list[int], config: SamplingConfig
) -> SnapshotText:
    """Returns how a snapshot goes on from tokens. Raises ValueError for what does not fit."""
    with plain_model(run.folder, step) as model:
        require_tokens(model, tokens, config.max_new_tokens)
        (row,) = complete(model, [tokens], config)
        return SnapshotText(row.tokens, [round(p, 6) for p in row.log_probabilities])
