"""The page: the data of all views in one HTML file that needs no network and no other file.

    page/entry.js and what it imports  ->  one module     a style sheet  ->  <style>
    the data                           ->  JSON, with < written as \\u003c

The browser runs the module because its SHA-256 stands in the policy of the page, and nothing else.
Previous: pictures.py.  Next: ../main.py.
"""

import base64
import hashlib
import json
import re
from dataclasses import fields, is_dataclass
from pathlib import Path

from visualization.inspection import Inspection
from visualization.views import load_view

PAGE = Path(__file__).with_name("page")
ENTRY = "entry.js"
FORMAT = 1  # of the data
IMPORT = re.compile(r'^import .* from "\./([\w-]+\.js)";\n', flags=re.MULTILINE)
EXPORT = re.compile(r"^export ", flags=re.MULTILINE)
ESCAPED = {"<": "\\u003c", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def data_of(inspection: Inspection, shown: dict[str, object]) -> dict[str, object]:
    """Returns the data of the page: the run, its tokens, the views, and the texts of their ids."""
    model, tokens = inspection.model, inspection.tokens
    named: set[int] = set()
    for name, view in shown.items():
        if ids := load_view(name).ids:
            named.update(ids(view))
    sizes = model.config
    return {
        "format": FORMAT,
        "language": inspection.language,
        "run": {
            "name": inspection.run.resolve().name,
            "n_layer": sizes.n_layer,
            "n_head": sizes.n_head,
            "n_embd": sizes.n_embd,
            "context_length": sizes.context_length,
            "vocab_size": sizes.vocab_size,
            "parameters": model.n_parameters(),
            "step": inspection.step,
            "world": inspection.world,
        },
        "text_source": {
            "kind": "prompt" if inspection.story is None else "story",
            "number": inspection.story_number,
            "cut": inspection.n_cut,
        },
        "tokens": [{"id": id, **vars(inspection.text_of(id))} for id in tokens],
        "vocabulary": {str(id): inspection.text_of(id) for id in sorted(named - set(tokens))},
        "views": shown,
    }


def html_of(data: dict[str, object]) -> str:
    """Returns the page with its data, style and script inside."""
    script = f"\n{joined_modules()}"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    strings = {name: json.loads(read(f"{name}.json")) for name in ("en", "ru")}
    parts = {
        "/*STYLE*/": read("style.css"),
        "__STRINGS__": as_json(strings),
        "__SCRIPT__": script,
        "__HASH__": f"sha256-{digest}",
        "__DATA__": as_json(data),
    }
    marks = re.compile("|".join(map(re.escape, parts)))
    return marks.sub(lambda mark: parts[mark[0]], read("xray.html"))


def read(name: str) -> str:
    """Returns the text of a file of the page."""
    return (PAGE / name).read_text(encoding="utf-8")


def joined_modules() -> str:
    """Returns the entry and all modules that it imports as one module, imports before importers.

    The names at the top of all modules are different, and stand in one scope here.
    """
    joined: dict[str, str] = {}

    def add(name: str) -> None:
        text = read(name)
        for other in IMPORT.findall(text):
            if other not in joined:
                add(other)
        joined.setdefault(name, EXPORT.sub("", IMPORT.sub("", text)))

    add(ENTRY)
    return "".join(joined.values())


def as_json(value: object) -> str:
    """Returns a value as JSON in which no character can end a script element.

    A dataclass becomes an object of its fields; None among them, where a default says so, is left
    out. Raises ValueError for nan and infinity, which JSON lacks.
    """
    text = json.dumps(
        value, ensure_ascii=False, default=fields_of, allow_nan=False, separators=(",", ":")
    )
    return re.sub("|".join(ESCAPED), lambda match: ESCAPED[match[0]], text)


def fields_of(value: object) -> dict[str, object]:
    """Returns a dataclass as a dict, without the optional fields that are None."""
    assert is_dataclass(value) and not isinstance(value, type), type(value)
    pairs = ((field, getattr(value, field.name)) for field in fields(value))
    return {
        field.name: item for field, item in pairs if item is not None or field.default is not None
    }
