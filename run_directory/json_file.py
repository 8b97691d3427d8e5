"""JSON that others wrote: read within bounds, or refused in one sentence that names the file.

    size     at most 32 MB: lists in lists take 24 times their bytes in memory
    depth    at most 200 levels, the parser's limit; Python's own would run out of stack
    text     UTF-8; a byte order mark at the beginning is accepted, half a surrogate pair is not
    numbers  NaN and Infinity are no JSON
    keys     the last of two equal ones counts, as in Python and in transformers

Previous: files.py.  Next: config_file.py.
"""

import codecs
import json
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from cfg_gpt2 import require

MAX_BYTES = 32_000_000
MAX_NAME_BYTES = 255  # of a file, on every usual file system
MAX_QUOTED = 100  # characters of a file that an error repeats
Kind = TypeVar("Kind")


def read_json(file: Path) -> object:
    """Returns the value in a JSON file. Raises ValueError where there is none."""
    return parse_json(read_limited(file), str(file))


def read_limited(file: Path) -> bytes:
    """Returns the bytes of a file, of a larger one so many that `parse_json` refuses them."""
    with file.open("rb") as opened:
        return opened.read(MAX_BYTES + 1)


def read_json_object(file: Path) -> dict[str, object]:
    """Returns the object in a JSON file. Raises ValueError where there is none."""
    value = read_json(file)
    if not isinstance(value, dict):
        raise ValueError(f"{file} is not a JSON object; copy or download it again")
    return value


def read_json_as(kind: type[Kind], file: Path) -> Kind:
    """Returns the content of a JSON file as a settings class. Raises ValueError as `validate`."""
    value = read_json(file)
    try:
        return validate(kind, value)
    except ValueError as error:
        raise ValueError(f"{file} cannot be used: {error}") from None


def parse_json(data: bytes, where: str) -> object:
    """Returns the value of a JSON text; `where` names the text in errors.

    Raises ValueError where it is not JSON, or larger than MAX_BYTES.
    """
    require(
        len(data) <= MAX_BYTES,
        f"{where} is larger than {MAX_BYTES // 10**6} MB, which is read as JSON at most",
    )
    data = data.removeprefix(codecs.BOM_UTF8)
    require(bool(data.strip()), f"{where} is empty where JSON is expected")
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError as error:
        reason = str(error).replace("recursion limit exceeded", "nested more than 200 deep")
        half = ", for it is a surrogate and no character" if "hex escape" in reason else ""
        raise ValueError(f"{where} is not JSON: {reason}{half}") from None


def validate(kind: type[Kind], value: object) -> Kind:
    """Returns a value of JSON as a settings class, for instance; nothing is converted silently.

    Raises ValueError, with the place and the reason, where it does not fit.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise ValueError(first_error(error)) from None


def first_error(error: ValidationError) -> str:
    """Returns the place and the reason of a validation's first error."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = shortened(".".join(map(str, first["loc"])))
    reason = first["msg"].removeprefix("Value error, ")
    return f"{where}: {reason}" if where else reason


def shortened(text: str, length: int = MAX_QUOTED) -> str:
    """Returns a text that a file brings, cut where it is too long for a sentence."""
    return text if len(text) <= length else f"{text[:length]}..."


def quoted(value: object) -> str:
    """Returns a value that a file brings as JSON, cut where it is too long for a sentence."""
    return shortened(json.dumps(value, ensure_ascii=False))


def is_file_name(name: str) -> bool:
    """Tells whether a name that a file gives stays in that file's folder, on every system."""
    parts = (PurePosixPath(name).name, PureWindowsPath(name).name)
    fits = len(name.encode(errors="replace")) <= MAX_NAME_BYTES
    return fits and parts == (name, name) and name not in ("", "..") and "\0" not in name
