"""What a folder of transformers says about chat: whether it has the template of this project.

    chat_template.jinja, else chat_template in tokenizer_config.json    ->    chat.json of the run

A foreign template is not supported, not even by half: the run is imported as a model of text.
Previous: folder_tokens.py.  Next: hub.py.
"""

import json
from pathlib import Path

from pretrained.token_settings import TOKENIZER_CONFIG_FILE, read_if_there
from run_directory.chat_template import CHAT_FILE, CHAT_FORMAT, TEMPLATE_FILE, system_of
from run_directory.files import sha256, write_whole
from run_directory.printable import main_command
from run_directory.weights import WEIGHTS_FILE


def import_chat(folder: Path, run_dir: Path, end: str) -> list[str]:
    """Writes chat.json where a folder has our template; returns a line where it has another.

    end is the text of the token that ends a text; run_dir has the weights already.
    Raises ValueError where a file is broken, OSError where one cannot be written.
    """
    template = folder_template(folder)
    if template is None:
        return []
    try:
        system = system_of(template, end)
    except ValueError as error:
        advice = main_command("finetune", run_dir)
        return [f"chat      its chat template is not taken over: {error}; for a chat, {advice}"]
    settings = {
        "format": CHAT_FORMAT,
        "system": system,
        "method": "import",
        "base": str(folder),
        "data": [],
        "base_sha256": sha256(run_dir / WEIGHTS_FILE),
    }
    text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
    write_whole(
        run_dir / CHAT_FILE, lambda part: part.write_text(text, encoding="utf-8", newline="\n")
    )
    return []


def folder_template(folder: Path) -> str | None:
    """Returns the chat template of a folder as transformers 5 finds it; None where it has none."""
    file = folder / TEMPLATE_FILE
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    template = read_if_there(folder / TOKENIZER_CONFIG_FILE).get("chat_template")
    return template if isinstance(template, str) or template is None else str(template)
