"""Units: what the losses and the token counts of a run stand for, and a line that says them.

Training learns every token of its text. Finetuning learns some of the tokens that it reads, and
the methods dpo and reward measure pairs of answers and answers instead of tokens.
Previous: progress.py.  Next: validation_curve.py.
"""

from dataclasses import dataclass
from pathlib import Path

from loss import perplexity
from run_directory.chat_template import CHAT_FILE
from run_directory.json_file import read_json_object
from training.progress import Metrics


@dataclass(frozen=True)
class Units:
    """The unit of a validation loss, and which tokens a run counts."""

    loss: str = "nats per token"
    tokens: str = "tokens"


OF_TEXT, OF_ANSWERS = Units(), Units(tokens="learned tokens")
OF_METHODS = {  # of finetuning
    "sft": OF_ANSWERS,
    "lora": OF_ANSWERS,
    "dpo": Units("per pair", "learned tokens"),
    "reward": Units("of the reward lost per answer", "learned tokens"),
}


def units_of(run_dir: Path) -> Units:
    """Returns the units of a run, by the method in its chat.json where it has one.

    Raises ValueError where that file is broken.
    """
    file = run_dir / CHAT_FILE
    if not file.exists():
        return OF_TEXT
    return OF_METHODS.get(str(read_json_object(file).get("method")), OF_TEXT)


def describe_step(metrics: Metrics, units: Units) -> str:
    """Returns the training loss of a step and its speed in a few words."""
    loss, bits = f"loss {metrics['train_loss']:.3f}", metrics.get("train_bits_per_byte")
    loss += f" ({bits:.3f} bits per byte)" if bits is not None else ""
    return f"{loss}  {metrics['tokens_per_second']:,.0f} {units.tokens}/s"


def describe_evaluation(metrics: Metrics, units: Units) -> str:
    """Returns a line about a validation loss, with its distance to the floor where it is known."""
    loss, bits = metrics["val_loss"], metrics.get("val_bits_per_byte")
    if bits is None:
        names = [name for name in metrics if name.startswith("val_") and name != "val_loss"]
        further = [f", {name[4:]} {metrics[name]:.4g}" for name in names]
        return f"validation loss {loss:.4g} {units.loss}{''.join(further)}"
    line = f"validation {loss:.4f} {units.loss}, {bits:.4f} bits per byte"
    line += f", perplexity {perplexity(loss):.2f}"
    floor = metrics.get("floor_bits_per_byte")
    if floor is None:
        return line
    return f"{line}; {100 * (bits / floor - 1):.1f}% above the floor {floor:.4f}"
