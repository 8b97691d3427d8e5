"""Who gets in: a table of requests with their statuses, and a command that refuses to be open."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import main
from commands.streams import WRONG_INPUT
from serving.app import make_app
from serving.runs import ServedRun
from serving.security import MAX_BODY, Access
from serving.settings import ServeCommand, read_serve_command

KEY = "0123456789abcdef"
TYPE = "application/json"
JSON = {"content-type": TYPE}
BEARER = {"authorization": f"Bearer {KEY}"}
FINE = JSON | BEARER
FORM = {"content-type": "application/x-www-form-urlencoded"}
EVIL = {"origin": "https://evil.example"}
POST = "POST /v1/completions"
BODY = b'{"prompt": "The", "max_tokens": 1, "seed": 1}'
LARGE = b'{"prompt": "' + b"a" * 2 * MAX_BODY + b'"}'


def pieces() -> Iterator[bytes]:
    """A body in chunks, which says nowhere how long it is."""
    yield from (LARGE[i : i + 2**16] for i in range(0, len(LARGE), 2**16))


TABLE = {  # name: request, headers besides, body; status without a key, status where there is one
    "as it should be": (POST, FINE, BODY, 200, 200),
    "a charset": (POST, BEARER | {"content-type": f"{TYPE}; charset=utf-8"}, BODY, 200, 200),
    "no key": (POST, JSON, BODY, 200, 401),
    "a wrong key": (POST, JSON | {"authorization": "Bearer 0123456789abcdeF"}, BODY, 200, 401),
    "a key of another kind": (POST, JSON | {"authorization": f"Basic {KEY}"}, BODY, 200, 401),
    "a key that is not ASCII": (POST, JSON | {"authorization": b"Bearer \xff"}, BODY, 200, 401),
    "a key in the URL": (f"{POST}?api_key={KEY}", JSON, BODY, 200, 401),
    "no key for tokens": ("POST /tokenize", JSON, b'{"prompt": "a"}', 200, 401),
    "no key for models": ("GET /v1/models", {}, None, 200, 401),
    "no key for metrics": ("GET /metrics", {}, None, 200, 401),
    "no key for the schema": ("GET /openapi.json", {}, None, 200, 401),
    "health needs none": ("GET /health", {}, None, 200, 200),
    "the docs are off": ("GET /docs", BEARER, None, 404, 404),
    "another host": (POST, FINE | {"host": "evil.example"}, BODY, 403, 403),
    "another host for health": ("GET /health", {"host": "evil.example:8000"}, None, 403, 403),
    "a host that is no name": (POST, FINE | {"host": "[::1"}, BODY, 403, 403),
    "localhost at another port": ("GET /health", {"host": "localhost:1"}, None, 200, 200),
    "IPv6 of this machine": ("GET /health", {"host": "[::1]:8000"}, None, 200, 200),
    "a page of another site": (POST, FINE | EVIL, BODY, 403, 403),
    "a page of a file": (POST, FINE | {"origin": "null"}, BODY, 403, 403),
    "a page of another port": (POST, FINE | {"origin": "http://127.0.0.1:1"}, BODY, 403, 403),
    "its own page": (POST, FINE | {"origin": "http://127.0.0.1:8000"}, BODY, 200, 200),
    "a preflight": ("OPTIONS /v1/completions", EVIL, None, 403, 403),
    "a form": (POST, FORM | BEARER, BODY, 415, 415),
    "plain text": (POST, {"content-type": "text/plain"} | BEARER, BODY, 415, 415),
    "no type": (POST, BEARER, BODY, 415, 415),
    "2 MiB": (POST, FINE, LARGE, 413, 413),
    "2 MiB in chunks": (POST, FINE, pieces, 413, 413),
    "a path upwards": ("GET /page/..%2f..%2fmain.py", BEARER, None, 404, 404),
    "a path upwards, encoded": ("GET /page/%2e%2e/security.py", BEARER, None, 404, 404),
    "a model upwards": ("GET /v1/models/..%2f..", BEARER, None, 404, 404),
    "another method": ("DELETE /v1/models", FINE, b"{}", 405, 405),
}  # fmt: skip


@pytest.fixture(scope="module")
def guarded(runs: dict[str, ServedRun]) -> TestClient:
    app = make_app(runs, Access(key=KEY, hosts=("desk",), origins=("https://good.example",)))
    return TestClient(app, base_url="http://127.0.0.1:8000")


@pytest.mark.parametrize("name", TABLE)
def test_each_request_has_its_status(client: TestClient, guarded: TestClient, name: str) -> None:
    request, headers, body, *statuses = TABLE[name]
    method, url = request.split(" ")
    for server, status in zip((client, guarded), statuses, strict=True):
        content = body() if callable(body) else body
        answer = server.request(method, url, headers=headers, content=content)
        assert answer.status_code == status, answer.text
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-request-id"]
        assert "access-control-allow-origin" not in answer.headers
        assert "Traceback" not in answer.text and KEY not in answer.text
        if status >= 400:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_names_and_sites_can_be_added(guarded: TestClient) -> None:
    assert guarded.get("/health", headers={"host": "DESK:8000"}).status_code == 200
    asked = {"origin": "https://good.example", "access-control-request-method": "POST"}
    preflight = guarded.options("/v1/completions", headers=asked)
    assert preflight.status_code == 204
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    answer = guarded.post("/v1/completions", headers=asked | FINE, content=BODY)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://good.example"


def test_a_request_id_is_returned_where_it_is_one(client: TestClient) -> None:
    given = {"x-request-id": "abc-1.2"}
    assert client.get("/health", headers=given).headers["x-request-id"] == "abc-1.2"
    forged = {"x-request-id": "a b\x0b"}
    assert client.get("/health", headers=forged).headers["x-request-id"] != forged["x-request-id"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "desk.example.org"])
def test_another_host_needs_a_key(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["serve", "runs/none", "--host", host]) == WRONG_INPUT
    assert "--api-key-file" in capsys.readouterr().err
    read_serve_command(["runs/none", "--host", host, "--api-key-file", "key"])
    for local in ("localhost", "::1", "127.0.0.2"):
        assert ServeCommand(run=(Path("runs/none"),), host=local).is_local


@pytest.mark.parametrize("text", ["", "short", "with a blank in it", "ключ" * 9, "a" * 15])
def test_a_poor_key_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "key"
    file.write_text(text, encoding="utf-8")
    assert main.main(["serve", "runs/none", "--api-key-file", str(file)]) == WRONG_INPUT
    said = capsys.readouterr().err
    assert "holds no key" in said and said.count("\n") == 1
    assert not text or text not in said.replace(str(file), "")


def test_a_port_that_is_taken_is_one_sentence(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main.main(["serve", str(small), "--port", port]) == WRONG_INPUT
    said = capsys.readouterr().err
    assert "cannot listen" in said and port in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--port", "65536"], "--port"),
        (["--slots", "0"], "--slots"),
        (["--allow-origin", "example.org"], "--allow-origin"),
        (["--allow-origin", "https://example.org/page"], "--allow-origin"),
        (["--allow-host", "http://desk"], "--allow-host"),
        ([], "none does not exist"),
    ],
)
def test_a_wrong_flag_is_one_sentence(
    flags: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["serve", str(tmp_path / "none"), *flags]) == WRONG_INPUT
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and word in said
