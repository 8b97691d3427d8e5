"""The files of the page: their size, their strings, and what lets page.py join them as text."""

import json
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "visualization" / "page"
MODULES = {path.name: path.read_text(encoding="utf-8") for path in sorted(PAGE.glob("*.js"))}
STRINGS = {
    name: json.loads((PAGE / f"{name}.json").read_text(encoding="utf-8")) for name in ("en", "ru")
}
SCRIPT = "".join(MODULES.values())
MARK = re.compile(r"\{(\w+)\}")


def top_level_names(module: str) -> list[str]:
    """Returns the names that a module declares, those in brackets too."""
    declared = re.findall(
        r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+|\[.+?\])", module, re.MULTILINE
    )
    return [name for names in declared for name in re.findall(r"\w+", names)]


def test_the_page_is_small() -> None:
    lines = {name: len(text.splitlines()) for name, text in MODULES.items()}
    assert sum(lines.values()) <= 1400
    assert max(lines.values()) <= 250
    assert [
        line for text in MODULES.values() for line in text.splitlines() if len(line) > 100
    ] == []


def test_both_languages_have_the_same_strings() -> None:
    english, russian = STRINGS["en"], STRINGS["ru"]
    assert list(english) == list(russian)
    for key in english:
        assert english[key] and russian[key], key
        assert set(MARK.findall(english[key])) == set(MARK.findall(russian[key])), key


def test_every_string_that_a_module_asks_for_is_there() -> None:
    asked = set(re.findall(r'say\("([\w.]+)"', SCRIPT))
    assert len(asked) > 50
    assert asked - STRINGS["en"].keys() == set()


def test_every_view_says_what_it_shows_and_what_it_does_not_prove() -> None:
    views = re.findall(r'^  name: "(\w+)"|blockView\("(\w+)"\)', SCRIPT, re.MULTILINE)
    names = [one or other for one, other in views]
    assert len(names) == 14
    for name in names:
        for strings in STRINGS.values():
            assert strings[f"view.{name}"]
            for kind in ("shows", "not"):
                assert re.fullmatch(r"[^.]+\.", strings[f"{name}.{kind}"].replace("0.1", "")), name


@pytest.mark.parametrize("name", MODULES)
def test_a_module_can_be_joined_as_text(name: str) -> None:
    text = MODULES[name]
    for line in re.findall(r"^import .*", text, re.MULTILINE):
        match = re.fullmatch(r'import \{ ([\w, ]+) \} from "\./([\w-]+\.js)";', line)
        assert match, line
        for imported in match[1].split(", "):
            assert re.search(rf"^export .*\b{imported}\b", MODULES[match[2]], re.MULTILINE), (
                imported
            )
            assert len(re.findall(rf"\b{re.escape(imported)}\b", text)) > 1, f"{imported} is unused"
    assert re.search(r"^(import(?! \{ )|export (?!(async )?function|const))", text, re.M) is None


def test_top_level_names_are_unique_over_all_modules() -> None:
    names = [name for text in MODULES.values() for name in top_level_names(text)]
    assert len(names) > 50
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("name", [*MODULES, "style.css", "xray.html"])
def test_nothing_is_loaded_and_no_text_becomes_markup_or_code(name: str) -> None:
    text = (PAGE / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    forbidden = (
        r"https?:|@import|url\(|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|"
        r"new Function|\bfetch\(|XMLHttpRequest|localStorage|import\("
    )
    assert re.findall(forbidden, text) == []


def test_only_the_entry_reads_the_document() -> None:
    for name, text in MODULES.items():
        used = set(re.findall(r"(?<![.\w])(document|location|history|window)\.(\w+)", text))
        allowed = {("document", "createElement"), ("document", "createElementNS")}
        assert name in ("entry.js", "app.js") or used <= allowed, name


def test_the_template_has_each_mark_once() -> None:
    template = (PAGE / "xray.html").read_text(encoding="utf-8")
    for mark in ("/*STYLE*/", "__DATA__", "__STRINGS__", "__SCRIPT__", "__HASH__"):
        assert template.count(mark) == 1, mark
