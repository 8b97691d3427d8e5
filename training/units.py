"""Units: what the losses and the token counts of a run stand for, by what it learns from.

Training learns every token of its text. Finetuning learns some of the tokens that it reads, and
the methods dpo and reward measure pairs of answers and answers instead of tokens.
Previous: progress.py.  Next: validation_curve.py.
"""

from dataclasses import dataclass
from pathlib import Path

from run_directory.chat_template import CHAT_FILE
from run_directory.json_file import read_json_object


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
    "reward": Units("wrong answers per question", "learned tokens"),
}


def units_of(run_dir: Path) -> Units:
    """Returns the units of a run, by the method in its chat.json where it has one.

    Raises ValueError where that file is broken.
    """
    file = run_dir / CHAT_FILE
    if not file.exists():
        return OF_TEXT
    return OF_METHODS.get(str(read_json_object(file).get("method")), OF_TEXT)
