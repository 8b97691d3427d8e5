from pathlib import Path

import pytest

from cfg_gpt2 import RunConfig
from finetuning.chat_json import ChatSettings, read_chat_settings, write_chat_settings
from run_directory.chat_template import CHAT_FILE
from run_directory.config_file import write_config

TUNED = ChatSettings(
    system="Ты — помощник.", method="sft", base="runs/tiny-world", data=("a.jsonl", "b.jsonl"),
    base_sha256="3f2a",
)  # fmt: skip


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_chat_settings(tmp_path, TUNED)
    assert read_chat_settings(tmp_path) == TUNED


def test_a_run_that_was_not_tuned_is_named_with_the_command_that_tunes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="name a run directory"):
        read_chat_settings(tmp_path / "nothing")
    write_config(tmp_path, RunConfig())
    with pytest.raises(ValueError, match=r"was not finetuned for chat; python main.py finetune "):
        read_chat_settings(tmp_path)


BROKEN = {
    "no JSON": ("{", "is not JSON"),
    "a list": ("[]", "cannot be used"),
    "another format": ('"format": "chatml"', "format: Input should be 'turns'"),
    "an empty system message": ('"system": " "', "system is an empty text"),
    "an unknown key": ('"template": "x"', "template: Unexpected"),
    "a number": ('"method": 3', "method: "),
}


@pytest.mark.parametrize(("text", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_in_one_sentence(text: str, words: str, tmp_path: Path) -> None:
    if text.startswith('"'):
        text = '{"base": "a", "data": [], "base_sha256": "", "method": "sft", ' + text + "}"
    (tmp_path / CHAT_FILE).write_text(text)
    with pytest.raises(ValueError, match=words) as raised:
        read_chat_settings(tmp_path)
    assert "\n" not in str(raised.value) and CHAT_FILE in str(raised.value)
