"""A headless Chromium that the tests drive by hand: the DevTools protocol over two pipes.

Messages are JSON that ends with a zero byte: { id, method, params } there, results and events back
(chromedevtools.github.io/devtools-protocol). Everything a page asks for, says and throws is kept.
"""

import base64
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check",
    "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
    "--no-sandbox",  # its own sandbox does not start for root in a container
)  # fmt: skip
KEYS = {  # name -> (code, virtual key code)
    "Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "End": 35, "Home": 36, "ArrowLeft": 37,
    "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip
PATIENCE = 60.0  # seconds for an answer, on a machine that does much else


def find_chromium() -> str | None:
    """Returns the path of a Chromium of this machine; None where there is none, and on Windows."""
    if sys.platform == "win32":  # which starts processes in another way
        return None
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Chromium:
    """One browser process. Its profile is a folder that the caller gives and removes."""

    def __init__(self, program: str, profile: Path) -> None:
        import fcntl  # not on Windows, where this file is imported all the same

        down, self._write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in os.pipe())
        self._read, up = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in os.pipe())
        self._pid = os.posix_spawn(
            program,
            [program, *FLAGS, f"--user-data-dir={profile}"],
            {**os.environ, "HOME": str(profile)},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, down, 3),
                (os.POSIX_SPAWN_DUP2, up, 4),
            ],
            setpgroup=0,
        )
        os.close(down)
        os.close(up)
        self._last_id, self._rest = 0, b""
        self.events: list[dict] = []

    def call(self, method: str, session: str | None = None, **params: object) -> dict:
        """Returns the result of a method. Raises RuntimeError for its error, or for no answer."""
        self._last_id += 1
        message: dict[str, object] = {"id": self._last_id, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            answer = self._next_message()
            if answer.get("id") == self._last_id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)
        raise RuntimeError(f"{method}: no answer in {PATIENCE:.0f} s")

    def _next_message(self) -> dict:
        while b"\0" not in self._rest:
            piece = os.read(self._read, 1 << 20)
            if not piece:
                raise RuntimeError("the browser ended")
            self._rest += piece
        text, _, self._rest = self._rest.partition(b"\0")
        return json.loads(text)

    def close(self) -> None:
        """Ends the browser and all its processes."""
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._read)
        os.close(self._write)

    def open(
        self,
        address: str,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        online: bool = False,
    ) -> "Page":
        """Returns the page of an address, once its load event has come.

        Without `online` it has no network, not even this machine's.
        """
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, target, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.set_online(online)
        page.resize(width, height)
        page.set_dark(dark)
        page.call("Page.navigate", url=address)
        page.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")
        return page


class Page:
    """An open page: what it shows, and all that it asked for and said."""

    def __init__(self, browser: Chromium, target: str, session: str) -> None:
        self._browser, self._target, self._session = browser, target, session

    def call(self, method: str, **params: object) -> dict:
        """Returns the result of a method of this page."""
        return self._browser.call(method, self._session, **params)

    def evaluate(self, expression: str) -> object:
        """Returns the value of a JavaScript expression; a promise is awaited."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Returns once an expression is true. Raises RuntimeError where it never is."""
        until = time.monotonic() + PATIENCE
        while not self.evaluate(expression):
            if time.monotonic() > until:
                raise RuntimeError(f"never true: {expression}")
            time.sleep(0.02)

    def press(self, key: str, *, control: bool = False) -> None:
        """Presses and releases a key, with the control key held or without."""
        code = KEYS[key]
        text = {"Enter": "\r", " ": " "}.get(key)
        down: Mapping[str, object] = {"text": text} if text and not control else {}
        common = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code,
                  "modifiers": 2 * control}  # fmt: skip
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def set_online(self, online: bool) -> None:
        """Gives the page a network, or takes it away."""
        self.call("Network.emulateNetworkConditions", offline=not online, latency=0,
                  downloadThroughput=-1, uploadThroughput=-1)  # fmt: skip

    def resize(self, width: int, height: int = 900) -> None:
        """Gives the page another size, in CSS pixels."""
        self._width = width
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip

    def set_dark(self, dark: bool) -> None:
        """Makes the system prefer dark or light colours."""
        value = "dark" if dark else "light"
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": value}],
        )

    def screenshot(self, file: Path) -> None:
        """Writes a PNG of the whole page, which is as tall as its content from here on."""
        height = self.evaluate("document.documentElement.scrollHeight")
        self.resize(self._width, max(900, height) if isinstance(height, int) else 900)
        self.evaluate("new Promise((done) => setTimeout(done, 200))")  # what is in sight is drawn
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _events(self, method: str) -> list[dict]:
        self.evaluate("0")  # what has happened so far is in the pipe before this answer
        events = [it for it in self._browser.events if it.get("sessionId") == self._session]
        return [it["params"] for it in events if it.get("method") == method]

    def requests(self) -> list[str]:
        """Returns the addresses that the page asked for, its own first."""
        return [it["request"]["url"] for it in self._events("Network.requestWillBeSent")]

    def complaints(self) -> list[str]:
        """Returns exceptions, refusals of the content security policy, and what was logged."""
        thrown = [str(it["exceptionDetails"]) for it in self._events("Runtime.exceptionThrown")]
        logged = [str(it["entry"]) for it in self._events("Log.entryAdded")]
        printed = [str(it["args"]) for it in self._events("Runtime.consoleAPICalled")]
        return thrown + logged + printed

    def dialogs(self) -> list[str]:
        """Returns the texts of alerts and their like."""
        return [it["message"] for it in self._events("Page.javascriptDialogOpening")]

    def close(self) -> None:
        """Closes the page."""
        self._browser.call("Target.closeTarget", targetId=self._target)
