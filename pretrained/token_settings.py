"""The settings of a folder's tokenizer, merged from three files as transformers does it.

    tokenizer_config.json                         the tokenizer's class, added and special tokens
    special_tokens_map.json, added_tokens.json    of transformers 4: read where the first file has
                                                  no added_tokens_decoder

The rules are those of transformers 5, tokenization_utils_base.py, _from_pretrained.
Previous: read_weights.py.  Next: folder_tokens.py.
"""

from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken

from pretrained.config_json import Json
from run_directory.json_file import quoted, read_json_object
from tokenizer import END_OF_TEXT

TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_MAP_FILE = "special_tokens_map.json"
ADDED_TOKENS_FILE = "added_tokens.json"
SETTINGS_FILES = (TOKENIZER_CONFIG_FILE, SPECIAL_TOKENS_MAP_FILE, ADDED_TOKENS_FILE)
DECODER = "added_tokens_decoder"
GPT2_CLASSES = (None, "GPT2Tokenizer", "GPT2TokenizerFast")
PLAIN_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")  # without rules of their own
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
LISTS = ("extra_special_tokens", "additional_special_tokens")
FLAGS = ("single_word", "lstrip", "rstrip", "normalized")  # of an added token


@dataclass(frozen=True)
class TokenSettings:
    """What the three files say."""

    tokenizer_class: str | None
    added: dict[int, AddedToken]  # by the id that the folder gives them
    special: list[AddedToken]  # those that have a name, such as eos_token, or stand in a list
    eos_token: str | None
    add_prefix_space: bool  # whether a text is read as if a space stood before it
    adds_tokens: bool  # whether a text gets bos_token before it or eos_token behind it


def read_token_settings(folder: Path, config: Json) -> TokenSettings:
    """Reads the settings of a folder's tokenizer; config.json may name the class as well.

    Raises ValueError where one of the files is broken.
    """
    file = folder / TOKENIZER_CONFIG_FILE
    settings = read_if_there(file)
    name = settings.get("tokenizer_class") or config.get("tokenizer_class")
    tokenizer_class = name if isinstance(name, str) else None
    merged = dict(settings)
    if DECODER not in settings:
        merged |= read_if_there(folder / SPECIAL_TOKENS_MAP_FILE)
    if tokenizer_class in GPT2_CLASSES:
        merged = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT) | merged
    special = special_tokens(merged, file)
    added = (
        read_decoder(settings[DECODER], file)
        if DECODER in settings
        else read_added_tokens(folder / ADDED_TOKENS_FILE, {token.content for token in special})
    )
    end = merged.get("eos_token")
    return TokenSettings(
        tokenizer_class=tokenizer_class,
        added=dict(sorted(added.items())),
        special=special,
        eos_token=added_token(end, file, special=True).content if end else None,
        add_prefix_space=settings.get("add_prefix_space") is True,
        adds_tokens=True in (settings.get("add_bos_token"), settings.get("add_eos_token")),
    )


def read_if_there(file: Path) -> Json:
    """Returns the object in a JSON file, {} where there is no file."""
    return read_json_object(file) if file.is_file() else {}


def read_decoder(tokens: object, file: Path) -> dict[int, AddedToken]:
    """Returns the tokens of an added_tokens_decoder by id."""
    if not isinstance(tokens, dict):
        raise ValueError(f"{file}: {DECODER} is not a JSON object")
    return {
        token_id(id, file): added_token(token, file, special=None) for id, token in tokens.items()
    }


def read_added_tokens(file: Path, special: set[str]) -> dict[int, AddedToken]:
    """Returns the tokens of an added_tokens.json by id; `special` holds the special ones."""
    return {
        token_id(id, file): added_token(content, file, special=content in special)
        for content, id in read_if_there(file).items()
    }


def token_id(value: object, file: Path) -> int:
    """Returns an id that stands in a file as a number or as digits."""
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    raise ValueError(f"{file}: {quoted(value)} is no token id; an id is a number from 0 on")


def special_tokens(settings: Json, file: Path) -> list[AddedToken]:
    """Returns the tokens that settings name, such as eos_token, then those in their lists."""
    values = [settings.get(name) for name in NAMED]
    values += [value for key, value in settings.items() if key.endswith("_token")]
    for name in LISTS:
        more = settings.get(name)
        values += list(more.values()) if isinstance(more, dict) else []
        values += more if isinstance(more, list) else []
    tokens: dict[str, AddedToken] = {}
    for value in values:
        if value and isinstance(value, str | dict):
            token = added_token(value, file, special=True)
            tokens.setdefault(token.content, token)
    return list(tokens.values())


def added_token(value: object, file: Path, *, special: bool | None) -> AddedToken:
    """Returns a token that stands in settings as its text or as an object.

    special is whether it is one; None: as the object says. Raises ValueError for anything else.
    """
    settings = value if isinstance(value, dict) else {"content": value}
    content = settings.get("content")
    if not isinstance(content, str) or content == "":
        raise ValueError(f"{file}: {quoted(value)} is no token; a token is a text")
    is_special = settings.get("special") is True if special is None else special
    flags = {flag: settings[flag] is True for flag in FLAGS if flag in settings}
    return AddedToken(content, **{"normalized": not is_special, "special": is_special} | flags)
