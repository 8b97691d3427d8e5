"""chat.json: how a run was tuned for chat. A run without it has not learned the chat template.

Previous: command.py.  Next: best_adapter.py.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from cfg_gpt2 import require
from finetuning.lora_settings import LoraConfig
from finetuning.preference_settings import PreferenceConfig
from finetuning.reward_settings import RewardConfig
from run_directory.chat_template import CHAT_FILE
from run_directory.config_file import read_config
from run_directory.files import write_whole
from run_directory.json_file import read_json_as
from run_directory.printable import main_command

Method = Literal["sft", "lora", "dpo", "reward"]
Tuning = Literal["sft", "lora", "dpo", "reward", "import"]  # import: it was tuned elsewhere


@dataclass(frozen=True, kw_only=True)
class ChatSettings:
    """How a run was tuned, and how a dialogue with it begins."""

    __pydantic_config__ = {"extra": "forbid"}

    format: Literal["turns"] = "turns"  # the template of chat_format.py, the only one
    system: str | None = None  # the system message of a dialogue that brings none
    method: Tuning
    base: str  # the run whose weights it began with
    data: tuple[str, ...]  # what it has learned from
    base_sha256: str  # of that run's weights
    replay: float = 0.0  # the share of what was learned that came from the base's own text
    examples: int | None = None  # of a built-in task; None: as many as it has
    leave_out_long: bool = False  # whether dialogues that do not fit may be left out
    lora: LoraConfig | None = None  # of the method lora
    preference: PreferenceConfig | None = None  # of the method dpo
    reward: RewardConfig | None = None  # of the method reward

    def __post_init__(self) -> None:
        require(
            self.system is None or self.system.strip() != "",
            "system is an empty text; write null where there is no system message",
        )


def write_chat_settings(run_dir: Path, settings: ChatSettings) -> None:
    """Writes run_dir/chat.json, whole or not at all."""
    values = TypeAdapter(ChatSettings).dump_python(settings, mode="json")
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    file = run_dir / CHAT_FILE
    write_whole(file, lambda part: part.write_text(text, encoding="utf-8", newline="\n"))


def read_chat_settings(run_dir: Path) -> ChatSettings:
    """Reads run_dir/chat.json.

    Raises FileNotFoundError where the folder is no run, ValueError where the run was not tuned for
    chat, and where the file is broken.
    """
    file = run_dir / CHAT_FILE
    if not file.exists():
        read_config(run_dir)  # raises the right error for a folder that is no run
        advice = main_command("finetune", run_dir)
        raise ValueError(f"{run_dir} was not finetuned for chat; {advice}")
    return read_json_as(ChatSettings, file)
