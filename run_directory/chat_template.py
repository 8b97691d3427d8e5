"""The chat template in Jinja, in which it leaves the project, and which runs were tuned for it.

chat.json marks such a run: {"format": "turns", "system": null or the text of a system message that
every dialogue without one begins with}. The project's own tools never run Jinja.
Previous: generation_config.py.  Next: ../load_data.py.
"""

import re
from pathlib import Path

from cfg_gpt2 import require
from run_directory.json_file import read_json_object, shortened

ROLES = ("system", "user", "assistant")
CHAT_FILE = "chat.json"
CHAT_FORMAT = "turns"  # finetuning/chat_format.py
TEMPLATE_FILE = "chat_template.jinja"  # of transformers 5
# Older llama.cpp takes a template with '<|assistant|>' and '<|user|>' for GLM-Edge's, which has no
# end token, and one with '<|user|>' alone for Zephyr's, which is this one.
BEGIN_ANSWER = "{% if add_generation_prompt %}{{ '<|' + 'assistant' + '|>\\n' }}{% endif %}"
ZEPHYR = "{# <|user|> #}"
_SYSTEM_TURN = re.compile(r"\{\{ '<\|system\|>\\n((?:[^'\\]|\\.)*)' \}\}")


def jinja_template(end: str, system: str | None = None) -> str:
    """Returns the template as transformers and llama.cpp read it.

    end is the text of the token that closes each turn, system what a dialogue without a system
    message begins with.
    """
    first = ""
    if system:
        turn = jinja_text(f"<|system|>\n{system.strip()}{end}\n")
        first = (
            f"{{% if loop.first and message['role'] != 'system' %}}{{{{ {turn} }}}}{{% endif %}}"
        )
    turn = f"'<|' + message['role'] + '|>\\n' + (message['content'] | trim) + {jinja_text(end)}"
    each = f"{first}{{{{ {turn} + '\\n' }}}}"
    return f"{{% for message in messages %}}{each}{{% endfor %}}{BEGIN_ANSWER}{ZEPHYR}"


def jinja_text(text: str) -> str:
    """Returns a text as a string of Jinja."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return "'" + escaped.replace("\n", "\\n").replace("\r", "\\r") + "'"


def system_of(template: str, end: str) -> str | None:
    """Returns the system message that a template puts first, as jinja_template was given it.

    Raises ValueError where the template is not one of jinja_template's.
    """
    turn = _SYSTEM_TURN.search(template)
    system = None
    if turn:
        text = re.sub(r"\\(.)", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), turn[1])
        system = text.removesuffix(f"{end}\n")
    require(jinja_template(end, system) == template, "it is the template of another program")
    return system


def read_template(run_dir: Path, end: str) -> str | None:
    """Returns the template of a run in Jinja; None where it was not tuned for chat.

    end is the text of the token that closes each turn.
    Raises ValueError where chat.json is broken, or names another format.
    """
    file = run_dir / CHAT_FILE
    if not file.exists():
        return None
    settings = read_json_object(file)
    require(
        settings.get("format") == CHAT_FORMAT,
        f"{file}: the format is {shortened(repr(settings.get('format')))}, and only "
        f"{CHAT_FORMAT!r} is known; finetune the run again",
    )
    system = settings.get("system")
    if system is not None and not isinstance(system, str):
        raise ValueError(f"{file}: 'system' is no text; write one, or null")
    return jinja_template(end, system)
