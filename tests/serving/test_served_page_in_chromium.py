"""The page in a real browser, on a real server. Skipped where no Chromium is.

On Debian and Ubuntu: apt-get install chromium.
"""

import json
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from oracles.chromium import Chromium, Page, find_chromium
from oracles.world_run import new_world_run

from decoding.engine import complete
from decoding.settings import SamplingConfig
from serving.app import make_app
from serving.run_page import token_view
from serving.runs import ServedRun, open_runs
from serving.security import Access
from serving.settings import ServeCommand

PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium on this machine: apt-get install chromium"
)
PAGES = ("write", "xray", "compare", "run", "api")
TEXT = "document.querySelector('.written').textContent"
IDLE = "document.querySelector('[data-focus=stop]').disabled"
HOSTILE = "</script><img src=x onerror=alert(1)>"
N_WRITTEN = "document.querySelectorAll('.written .model').length"
N_TOKENS = "document.querySelectorAll('.written [data-t]').length"


class Served:
    """A server in a thread of this process, that can be ended and begun again on its port."""

    def __init__(self, runs: dict[str, ServedRun]) -> None:
        self.app, self.port = make_app(runs, Access()), 0
        self.start()

    def start(self) -> None:
        opened = socket.create_server(("127.0.0.1", self.port))
        self.port = opened.getsockname()[1]
        config = uvicorn.Config(self.app, log_level="critical", timeout_graceful_shutdown=0)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [opened]})
        self.thread.start()

    def stop(self) -> None:
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()

    def address(self, language: str, page: str = "write") -> str:
        return f"http://127.0.0.1:{self.port}/?lang={language}#{page}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedRun]:
    folder = new_world_run(tmp_path_factory.mktemp("runs") / "world")
    run = open_runs(ServeCommand(run=(folder,)))["world"]
    run.engine.start()
    yield run
    run.engine.stop(5)


@pytest.fixture(scope="module")
def served(run: ServedRun) -> Iterator[Served]:
    served = Served({"world": run})
    yield served
    served.stop()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    browser = Chromium(PROGRAM or "", tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def opened(browser: Chromium, address: str, width: int = 1280, *, dark: bool = False) -> Page:
    page = browser.open(address, width=width, height=740, dark=dark, online=True)
    page.wait_for("!!document.querySelector('#content form')")
    return page


def type_into(page: Page, place: str, value: str) -> None:
    page.evaluate(
        f"(() => {{ const field = document.querySelector({json.dumps(place)});"
        f" field.value = {json.dumps(value)}; field.dispatchEvent(new Event('input')); }})()"
    )


def click(page: Page, place: str) -> None:
    page.evaluate(f"document.querySelector({json.dumps(place)}).click()")


def write(page: Page, prompt: str, seed: int, n_tokens: int) -> None:
    """Writes by the keyboard, without waiting for the end."""
    type_into(page, "#prompt", prompt)
    type_into(page, "#settings-seed", str(seed))
    type_into(page, "#settings-max_tokens", str(n_tokens))
    page.evaluate("document.querySelector('#prompt').focus()")
    page.press("Enter", control=True)


def visit(page: Page, name: str) -> None:
    """Opens one of the pages, and waits until it has drawn what it asked the server for."""
    page.evaluate(f"location.hash = '{name}'")
    sign = {"xray": ".embedded .panel h2", "compare": "#step-a", "run": ".pairs", "api": ".code"}
    page.wait_for(f"!!document.querySelector('{sign.get(name, '#prompt')}')")


def shown(run: ServedRun, tokens: list[int]) -> str:
    """Returns a text as the page shows it: half a character is shown as its bytes."""
    views = (token_view(run.tokenizer, token) for token in tokens)
    return "".join(f"⟨{bytes.fromhex(it.bytes).hex(' ')}⟩" if it.bytes else it.text for it in views)


def require_tidy(page: Page, served: Served) -> None:
    """The page asked nobody else, said nothing to the console, and is as wide as the window."""
    own = f"http://127.0.0.1:{served.port}/"
    assert [it for it in page.requests() if not it.startswith((own, "data:", "blob:"))] == []
    assert page.complaints() == []
    assert page.dialogs() == []


def test_a_text_is_written_and_goes_on_from_an_alternative(
    browser: Chromium, served: Served, run: ServedRun
) -> None:
    page = opened(browser, served.address("en"))
    write(page, "One fine", seed=4, n_tokens=24)
    page.wait_for(f"{N_TOKENS} > 0 && {IDLE} && !!document.querySelector('.verdict')")
    prompt = run.tokenizer.encode("One fine")
    config = SamplingConfig(max_new_tokens=24, seed=4)
    (row,) = complete(run.model, [prompt], config, run.tokenizer)
    assert page.evaluate(TEXT) == shown(run, prompt + row.tokens)
    coloured = "[...document.querySelectorAll('.written [data-t]')].map((it) => "
    backgrounds = page.evaluate(coloured + "it.style.backgroundColor !== '')")
    assert backgrounds == [False] + [True] * (len(prompt) + 23)  # nothing predicts the first one
    page.evaluate("document.querySelector('.written').focus()")
    at = len(prompt) + 5
    for _ in range(at + 1):
        page.press("ArrowRight")
    assert page.evaluate(
        "document.querySelector('.written [aria-selected=true]').dataset.t"
    ) == str(at)
    page.wait_for("!!document.querySelector('.pick:not(:disabled)')")
    taken = page.evaluate(
        "document.querySelector('.alternatives .pick:not(:disabled)').dataset.focus"
    )
    click(page, ".alternatives .pick:not(:disabled)")
    page.wait_for("document.querySelectorAll('.branch').length === 2")
    page.wait_for(f"{IDLE} && {N_TOKENS} > {at + 1}")
    new = prompt + row.tokens[:5] + [int(str(taken).removeprefix("pick-"))]
    assert str(page.evaluate(TEXT)).startswith(shown(run, new))
    page.wait_for("!!document.querySelector('.verdict.impossible')")
    assert page.evaluate("document.querySelectorAll('.written .impossible').length > 0")
    require_tidy(page, served)
    page.close()


def test_escape_stops_a_text_and_keeps_what_is_there(browser: Chromium, served: Served) -> None:
    page = opened(browser, served.address("en"))
    page.call("Network.emulateNetworkConditions", offline=False, latency=0,
              downloadThroughput=30_000, uploadThroughput=-1)  # fmt: skip
    write(page, HOSTILE, seed=1, n_tokens=100)
    page.wait_for(f"{N_WRITTEN} > 3")
    page.press("Escape")
    page.wait_for(IDLE)
    n = page.evaluate(N_WRITTEN)
    assert isinstance(n, int) and 3 < n < 100
    assert str(page.evaluate(TEXT)).startswith(HOSTILE)  # as text: require_tidy() sees no dialog
    assert "error" not in str(page.evaluate("document.querySelector('.error').textContent"))
    require_tidy(page, served)
    page.close()


def test_every_page_fits_a_phone_is_dark_and_speaks_russian(
    browser: Chromium, served: Served
) -> None:
    page = opened(browser, served.address("ru"), width=360, dark=True)
    write(page, "One fine", seed=4, n_tokens=24)
    page.wait_for(f"{N_TOKENS} > 0 && {IDLE} && !!document.querySelector('.verdict')")
    for name in PAGES:
        visit(page, name)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        shown = str(page.evaluate("document.querySelector('#content').innerText"))
        assert "undefined" not in shown and "NaN" not in shown and "\ufffd" not in shown, name
        assert sum("а" <= letter <= "я" for letter in shown) > 40, name
        small = "[...document.querySelectorAll('.top button, .top a, .actions button')]"
        assert page.evaluate(f"{small}.every((it) => it.offsetHeight >= 40 || !it.offsetHeight)")
    assert page.evaluate("document.documentElement.lang") == "ru"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.set_dark(False)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    require_tidy(page, served)
    page.close()


def test_the_xray_is_reached_and_saved_by_the_keyboard_alone(
    browser: Chromium, served: Served
) -> None:
    page = opened(browser, served.address("en"))
    page.evaluate("URL.createObjectURL = (blob) => { window.saved = blob; return '#xray'; }")
    write(page, "One fine", seed=4, n_tokens=24)
    page.wait_for(f"{N_TOKENS} > 0 && {IDLE}")
    visit(page, "xray")
    page.evaluate("document.querySelector('#xray-text').focus()")
    focus = "document.activeElement.dataset.focus"
    for place, key in (("save", "Enter"), ("strip", "ArrowRight"), ("surprise", "ArrowRight")):
        for _ in range(20):
            if page.evaluate(focus) == place:
                break
            page.press("Tab")
        page.press(key)
    assert page.evaluate(focus) == "alternatives"
    title = "document.querySelector('.embedded .panel h2').textContent"
    page.wait_for(f"{title} === 'Alternatives'")
    page.wait_for("!!window.saved")
    saved = str(page.evaluate("window.saved.text()"))
    assert saved.startswith("<!doctype html>") and "xray-data" in saved
    assert '"text":" fine"' in saved
    require_tidy(page, served)
    page.close()


def test_language_and_reload_keep_what_was_written(browser: Chromium, served: Served) -> None:
    page = opened(browser, served.address("en"))
    write(page, "One fine", seed=4, n_tokens=8)
    page.wait_for(f"{N_TOKENS} > 8 && {IDLE}")
    before = page.evaluate(TEXT)
    click(page, "[data-focus=ru]")
    page.wait_for(f"{N_TOKENS} > 8")
    assert page.evaluate(TEXT) == before
    assert "lang=ru" in str(page.evaluate("location.search"))
    assert "токен" in str(page.evaluate("document.querySelector('.facts-of-text').textContent"))
    page.press("Enter", control=True)
    page.call("Page.reload")  # while the server writes
    page.wait_for("document.querySelector('#prompt')?.value === 'One fine'")
    assert page.evaluate("document.querySelector('#settings-seed').value") == "4"
    page.close()


def test_a_server_that_is_gone_is_told_and_the_page_goes_on_when_it_is_back(
    browser: Chromium, served: Served
) -> None:
    page = opened(browser, served.address("en"))
    banner = "document.querySelector('.banner').hidden"
    assert page.evaluate(banner)
    served.stop()
    write(page, "One fine", seed=4, n_tokens=8)
    page.wait_for(f"!{banner} && document.querySelector('.error').textContent !== ''")
    served.start()
    page.wait_for(banner)
    page.press("Enter", control=True)
    page.wait_for(f"{N_TOKENS} > 8 && {IDLE}")
    assert page.evaluate("document.querySelector('.error').textContent") == ""
    page.close()
