"""The guides for contributors: their links lead somewhere, and the glossary has every column."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(path for path in ROOT.glob("*/README.md") if not path.parent.name.startswith(".")),
    *sorted(ROOT.glob("data/*/README.md")),
]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    targets = re.findall(r"\]\((?!https:)([^)]+)\)", page.read_text(encoding="utf-8"))
    for target in targets:
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def test_every_term_of_the_glossary_has_two_languages_a_sentence_and_a_place() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line[:2] == "| "]
    rows = [
        [cell.strip() for cell in row] for row in rows if row[0].strip() not in ("English", "---")
    ]
    assert len(rows) > 80
    assert len({row[0] for row in rows}) == len(rows)
    for row in rows:
        _, russian, definition, where = row
        assert russian and definition.endswith(".") and where.startswith("["), row


BLOCKS = [
    pytest.param(block, id=f"{name_of(page)}-{i}")
    for page in PAGES
    for i, block in enumerate(
        re.findall(
            r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        )
    )
]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_in_the_documents_runs(block: str) -> None:
    subprocess.run([sys.executable, "-c", block], cwd=ROOT, check=True)
