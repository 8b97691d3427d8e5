"""The page in a real browser, from a file and without a network. Skipped where no Chromium is.

On Debian and Ubuntu: apt-get install chromium.
"""

import base64
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from oracles.chromium import Chromium, Page, find_chromium
from oracles.xray_data import packed, xray_data

from visualization.page import html_of

PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium that these tests can start: apt-get install chromium"
)
HOSTILE = "</script><img src=x onerror=alert(1)>"
TEXTS = [
    "Анна",
    " went",
    " to",
    "\n",
    b"\xd0",
    b"\xb0",
    " hall",
    ".",
    HOSTILE,
    "<!--",
    "\u2028",
    "🙂",
]
VIEWS = "[...document.querySelectorAll('[role=tab]')]"
TOO_WIDE = "document.documentElement.scrollWidth > innerWidth"
CHOSEN = "document.querySelector('.strip [aria-selected=true]').dataset.t"
FOCUS = "document.activeElement.dataset.focus"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    browser = Chromium(PROGRAM or "", tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("мои запуски") / "tiny world"
    folder.mkdir()
    file = folder / "рентген.html"
    file.write_text(html_of(xray_data(TEXTS)), encoding="utf-8")
    return file.as_uri()


def opened(browser: Chromium, address: str, **options: int | bool) -> Page:
    page = browser.open(address, **options)  # type: ignore[arg-type]
    page.wait_for("!!document.querySelector('.panel h2')")
    return page


@pytest.mark.parametrize("width, dark, language", [(1280, False, "en"), (360, True, "ru")])
def test_every_view_is_drawn_without_a_request_a_complaint_or_a_wide_page(
    browser: Chromium, address: str, width: int, dark: bool, language: str
) -> None:
    page = opened(browser, address, width=width, dark=dark)
    page.evaluate(f"document.querySelector('[data-focus={language}]').click()")
    names = page.evaluate(f"{VIEWS}.map((tab) => tab.dataset.focus)")
    assert isinstance(names, list) and len(names) == 13
    for name in names:
        page.evaluate(f"document.querySelector('[data-focus={name}]').click()")
        page.evaluate("new Promise((done) => requestAnimationFrame(done))")
        assert not page.evaluate(TOO_WIDE), name
        shown = page.evaluate("document.querySelector('.panel').innerText")
        assert isinstance(shown, str) and len(shown) > 150, name
        assert "\ufffd" not in shown and "undefined" not in shown and "NaN" not in shown, name
    assert page.evaluate("document.documentElement.lang") == language
    assert page.requests() == [address]
    assert page.complaints() == []
    assert page.dialogs() == []
    page.close()


def test_a_dark_system_and_the_switch_both_make_the_page_dark(
    browser: Chromium, address: str
) -> None:
    page = opened(browser, address, dark=True)
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.evaluate("document.querySelector('[data-focus=light]').click()")
    light = page.evaluate(background)
    page.set_dark(False)
    page.evaluate("document.querySelector('[data-focus=dark]').click()")
    assert page.evaluate(background) == dark != light
    page.close()


def test_the_keyboard_alone_reaches_text_and_views(browser: Chromium, address: str) -> None:
    page = opened(browser, f"{address}#surprise/0")
    reached = []
    while (name := page.evaluate(FOCUS)) != "surprise":
        reached.append(name)
        assert len(reached) < 40
        if name == "strip":
            page.press("ArrowRight")
            page.press("ArrowRight")
            assert page.evaluate(CHOSEN) == "2"
            page.press("End")
            assert page.evaluate(CHOSEN) == str(len(TEXTS) - 1)
            page.press("Home")
            assert page.evaluate(CHOSEN) == "0"
        page.press("Tab")
    assert {"en", "ru", "auto", "dark", "next", "strip"} <= {*reached, name}
    page.press("ArrowRight")
    assert page.evaluate(FOCUS) == "alternatives"
    assert page.evaluate("document.querySelector('.panel h2').textContent") == "Alternatives"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"  # the focus can be seen
    page.close()


def test_arrow_keys_walk_over_the_square_of_attention(browser: Chromium, address: str) -> None:
    page = opened(browser, f"{address}#attention/3")
    page.evaluate("document.querySelector('.square').focus()")
    page.press("ArrowLeft")
    page.press("ArrowLeft")
    readout = "document.querySelector('.readout').textContent"
    page.wait_for(f"{readout}.includes('(1)')")
    page.press("ArrowDown")
    assert page.evaluate(CHOSEN) == "4"
    assert "⟨d0⟩ (4)" in str(page.evaluate(readout))  # half a character is shown as its byte
    page.close()


def test_the_attention_that_was_packed_is_the_attention_that_is_shown(
    browser: Chromium, address: str
) -> None:
    page = opened(browser, f"{address}#attention/5")
    page.evaluate("document.querySelector('[data-focus=head-1-0]').click()")  # looks 3 tokens back
    first = "document.querySelector('.large .bars li').textContent"
    page.wait_for(f"{first}.startsWith('2 ')")
    assert str(page.evaluate(first)).endswith("100%")
    assert page.evaluate("document.querySelector('.thumbnail[aria-pressed=true]').ariaLabel") == (
        "Head 1.0"
    )
    page.close()


def test_a_number_of_attention_is_exact_where_the_page_has_it(
    browser: Chromium, tmp_path: Path
) -> None:
    n, weight = 5, struct.unpack("<f", struct.pack("<f", 0.1234567))[0]
    data = xray_data(TEXTS[:n])
    attention = data["views"]["attention"]  # type: ignore[index]
    weights = [weight if (t, s) == (4, 1) else 0.25 for t in range(n) for s in range(t + 1)]
    attention.update(  # type: ignore[attr-defined]
        encoding="f32-lower-triangle-deflate-raw-base64",
        weight=packed(struct.pack(f"<{6 * len(weights)}f", *weights * 6)),
    )
    file = tmp_path / "exact.html"
    file.write_text(html_of(data), encoding="utf-8")
    page = opened(browser, f"{file.as_uri()}#attention/4")
    page.wait_for("document.querySelector('.large .bars li').textContent.includes('25%')")
    page.evaluate("document.querySelector('.square').focus()")
    for _ in range(3):
        page.press("ArrowLeft")
    readout = str(page.evaluate("document.querySelector('.readout').textContent"))
    assert "12% (0.123456702)" in readout and abs(weight - 0.123456702) < 1e-9
    page.close()


def test_facts_and_findings_follow_the_language_of_the_page(
    browser: Chromium, address: str
) -> None:
    page = opened(browser, f"{address}#ideal/2")
    shown = "document.querySelector('.panel').innerText"
    assert "Anna is in the hall." in str(page.evaluate(shown))
    page.evaluate("document.querySelector('[data-focus=ru]').click()")
    assert "Аня в зале." in str(page.evaluate(shown))
    assert "Anna" not in str(page.evaluate(shown))
    page.evaluate("document.querySelector('[data-focus=probes]').click()")
    assert "Контроль лучше." in str(page.evaluate(shown))
    page.close()


def test_the_head_of_a_column_sorts_a_table_and_sorts_it_back(
    browser: Chromium, address: str
) -> None:
    page = opened(browser, f"{address}#ideal/2")
    table = "document.querySelector('.panel table')"
    column = f"[...{table}.tBodies[0].rows].map((row) => row.cells[2].textContent)"
    head = f"{table}.tHead.rows[0].cells[2]"
    assert page.evaluate(column) == ["1.500", "2.500", "3.500"]
    for order, values in (
        ("descending", ["3.500", "2.500", "1.500"]),
        ("ascending", ["1.500", "2.500", "3.500"]),
    ):
        page.evaluate(f"{head}.querySelector('button').click()")
        assert page.evaluate(f"{head}.ariaSort") == order
        assert page.evaluate(column) == values
    page.evaluate(f"{table}.tHead.rows[0].cells[0].querySelector('button').click()")
    names = f"[...{table}.tBodies[0].rows].map((row) => row.cells[0].textContent)"
    assert page.evaluate(names) == ["asks", "evening", "goes"]
    page.close()


def test_print_shows_the_whole_text_and_the_open_view_without_buttons(
    browser: Chromium, tmp_path: Path
) -> None:
    file = tmp_path / "long.html"
    file.write_text(html_of(xray_data([f" word{n}" for n in range(400)])), encoding="utf-8")
    page = opened(browser, f"{file.as_uri()}#surprise/3")
    strip = "document.querySelector('.strip')"
    hidden = f"{strip}.scrollHeight - {strip}.clientHeight"
    display = "getComputedStyle(document.querySelector('.tabs')).display"
    scrolled = page.evaluate(hidden)
    assert isinstance(scrolled, int) and scrolled > 100 and page.evaluate(display) == "flex"
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.evaluate(hidden) == 0 and page.evaluate(display) == "none"
    sheets = base64.b64decode(page.call("Page.printToPDF")["data"])
    assert sheets.startswith(b"%PDF") and len(sheets) > 20_000
    page.close()


def test_layers_stand_from_bottom_to_top_beside_their_labels(
    browser: Chromium, address: str
) -> None:
    page = opened(browser, f"{address}#lens/3")
    rows = page.evaluate(
        "[...document.querySelectorAll('.heat tbody th')].map((th) => th.textContent)"
    )
    assert isinstance(rows, list)
    assert rows[-1] == "embeddings" and rows[0] == "Layer 1, feed-forward"
    settled = (
        "[...document.querySelectorAll('.heat tbody tr')].map((tr) => tr.children[1].className)"
    )
    marks = page.evaluate(settled)  # the first column is position 0, settled at depth 0
    assert isinstance(marks, list)
    assert [place for place, mark in enumerate(marks) if "settled" in mark] == [len(rows) - 1]
    page.close()
