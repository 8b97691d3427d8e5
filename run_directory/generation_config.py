"""generation_config.json: the token that a text begins with, and the tokens that end it.

The file is transformers' own. A run has one only where it was imported and its model says something
else than its tokenizer: another first token, several ends, or none.
Previous: open_run.py.  Next: chat_template.py.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from run_directory.files import write_whole
from run_directory.json_file import read_json_object, shortened
from tokenizer import Tokenizer

GENERATION_CONFIG_FILE = "generation_config.json"


@dataclass(frozen=True)
class GenerationTokens:
    """The ids that generation_config.json names, under its keys."""

    bos_token_id: int  # an empty prompt is this token
    eos_token_id: tuple[int, ...]  # each of them ends a text; (): none does


def read_generation_tokens(run_dir: Path, tokenizer: Tokenizer) -> GenerationTokens:
    """Returns a run's tokens; without a file, the end of text both begins and ends a text.

    Raises ValueError where the file is broken.
    """
    file, end = run_dir / GENERATION_CONFIG_FILE, tokenizer.end_of_text
    if not file.is_file():
        return GenerationTokens(end, (end,))
    settings = read_json_object(file)
    begin = token_ids(settings, "bos_token_id", file) or (end,)
    return GenerationTokens(begin[0], token_ids(settings, "eos_token_id", file))


def token_ids(settings: dict[str, object], key: str, file: Path) -> tuple[int, ...]:
    """Returns the ids of a key that holds an id, a list of ids, or null.

    Raises ValueError where it holds anything else.
    """
    value = settings.get(key)
    given = value if isinstance(value, list) else [] if value is None else [value]
    ids = [id for id in given if isinstance(id, int) and not isinstance(id, bool) and id >= 0]
    if len(ids) < len(given):
        shown = shortened(str(value))
        raise ValueError(f"{file}: {key} {shown} is no token id; write a number, or a list of them")
    return tuple(dict.fromkeys(ids))


def write_generation_tokens(run_dir: Path, tokens: GenerationTokens, tokenizer: Tokenizer) -> None:
    """Writes a run's generation_config.json where the tokenizer alone does not say the same."""
    end = tokenizer.end_of_text
    if tokens == GenerationTokens(end, (end,)):
        return
    text = json.dumps(generation_settings(tokens), indent=2) + "\n"
    file = run_dir / GENERATION_CONFIG_FILE
    write_whole(file, lambda part: part.write_text(text, encoding="utf-8", newline="\n"))


def generation_settings(tokens: GenerationTokens) -> dict[str, object]:
    """Returns the tokens under transformers' keys: one end as a number, several as a list."""
    ends: object = list(tokens.eos_token_id)
    if len(tokens.eos_token_id) < 2:
        ends = next(iter(tokens.eos_token_id), None)
    return {"bos_token_id": tokens.bos_token_id, "eos_token_id": ends}
