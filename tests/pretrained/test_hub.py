"""The Hugging Face hub, replaced by a local server; names on the hub and local folders."""

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from oracles.ports import free_ports

import main
import pretrained.hub
from cfg_gpt2 import GPT2Config
from gpt2 import GPT2Model
from pretrained.hub import OWNERS, answers, find_folder
from pretrained.hugging_face import write_folder
from tokenizer import Tokenizer

pytest.importorskip("huggingface_hub")
ROOT = Path(main.__file__).parent
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEXT = "The cat sat on the mat. " * 40


# Names and folders --------------------------------------------------------------------------


@pytest.fixture
def requested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are requested from the hub; the current folder is empty."""
    names: list[str] = []
    monkeypatch.setattr(
        pretrained.hub, "download", lambda name, revision: names.append(name) or tmp_path
    )
    monkeypatch.chdir(tmp_path)
    return names


@pytest.mark.parametrize("name", ["gpt2", "someone/gpt2-ru", "hub:gpt2", "a.b/c_d"])
def test_a_plain_name_is_a_repository_on_the_hub(name: str, requested: list[str]) -> None:
    find_folder(name, None, print)
    assert requested == [name.removeprefix("hub:")]


@pytest.mark.parametrize("name", ["gpt2", "someone/gpt2-ru", "hub:a/b"])
def test_a_name_that_may_be_a_mistyped_folder_is_not_sent_to_the_hub_without_a_word(
    name: str, requested: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    find_folder(name, None, print)
    said = f"hub       {name} is no folder here, so the hub is asked for it\n"
    assert capsys.readouterr().out == ("" if name in ("gpt2", "hub:a/b") else said)


def test_a_path_is_a_local_folder(tmp_path: Path, requested: list[str]) -> None:
    for name in ("gpt2", "runs/some/gpt2"):
        (tmp_path / name).mkdir(parents=True)
        assert find_folder(f"./{name}", None, print) == Path(name)
    assert find_folder("runs/some/gpt2", None, print) == Path("runs/some/gpt2")
    assert find_folder(str(tmp_path / "gpt2"), None, print) == tmp_path / "gpt2"
    assert requested == []


@pytest.mark.parametrize("name", ["gpt2", "someone/gpt2"])
def test_a_folder_named_like_a_repository_is_refused_as_ambiguous(
    name: str, tmp_path: Path, requested: list[str]
) -> None:
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(ValueError, match="is a folder here and could be a repository"):
        find_folder(name, None, print)
    find_folder(f"hub:{name}", None, print)
    assert requested == [name]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./gpt2", "./gpt2 is no folder"),
        ("a/b/c", "a/b/c is no folder"),
        ("hub:./gpt2", "./gpt2 is no name on the hub"),
        ("file", "file is a file, not a folder"),
        ("~/gpt2-that-is-not-there", "gpt2-that-is-not-there is no folder"),
        ("~nobody-of-this-name/gpt2", "~nobody-of-this-name/gpt2 is no folder"),
        ("../gpt2", "../gpt2 is no folder"),
        ("here/gtp2", "here has no folder gtp2; name one that it has, or write hub:here/gtp2"),
        ("nowhere/", "nowhere/ is no folder"),
        ("/nowhere/gpt2", "/nowhere/gpt2 is no folder"),
        ("my model", "my model is no folder"),
        ("", "the source is empty"),
    ],
)
def test_a_source_that_is_neither_folder_nor_repository_is_refused(
    name: str, words: str, tmp_path: Path, requested: list[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "here").mkdir()
    with pytest.raises((FileNotFoundError, ValueError), match=words.replace(".", r"\.")):
        find_folder(name, None, print)
    assert requested == []


def test_a_revision_of_a_local_folder_is_refused(tmp_path: Path, requested: list[str]) -> None:
    with pytest.raises(ValueError, match="--revision v2 is for repositories"):
        find_folder(str(tmp_path), "v2", print)


# Downloads ----------------------------------------------------------------------------------


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub that a download uses: one repository, one commit, files or errors."""

    folder: Path
    requested: list[str]

    def do_HEAD(self) -> None:
        self.answer(b"")

    def do_GET(self) -> None:
        if "/resolve/" in self.path:  # the library requests other paths too
            self.requested.append(self.path)
        self.answer(None)

    def answer(self, body: bytes | None) -> None:
        parts = [*self.path.strip("/").split("/"), "", "", "", ""]
        owner, name, _, revision, file = parts[:5]
        path = self.folder / file
        error = None
        if (owner, name) not in (("openai-community", "gpt2"), ("some", "shards")):
            error = "RepoNotFound"
        elif revision not in ("main", COMMIT):
            error = "RevisionNotFound"
        elif not path.is_file():
            error = "EntryNotFound"
        contents = b"" if error else path.read_bytes()
        self.send_response(404 if error else 200)
        if error:
            self.send_header("X-Error-Code", error)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{file}"')
        self.send_header("Content-Length", str(len(contents)))
        self.end_headers()
        self.wfile.write(contents if body is None else body)

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with a small model; GPT-2's tokenizer in two files."""
    folder = tmp_path_factory.mktemp("hub")
    tokenizer = Tokenizer.train([TEXT], 280)
    sizes = GPT2Config(
        vocab_size=tokenizer.vocab_size, context_length=16, n_layer=1, n_head=2, n_embd=8
    )
    torch.manual_seed(2)
    write_folder(GPT2Model(sizes), tokenizer, folder)
    (folder / "tokenizer.json").unlink()
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    names = [f"transformer.{name}" for name in shard_names()]
    index = {"weight_map": dict.fromkeys(names, "model-1.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    Hub.folder, Hub.requested = folder, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def shard_names() -> list[str]:
    from pretrained.names import name_table

    return [name.hugging_face for name in name_table(1)]


def run_main(folder: Path, lines: list[str], environment: dict[str, str]) -> list[str]:
    """Runs command lines in one process; returns the lines on stderr, a status after each."""
    script = (
        "import sys, main\n"
        "for line in sys.argv[1:]:\n"
        "    print(main.main(line.split()), file=sys.stderr)\n"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    process = subprocess.run(
        [sys.executable, "-c", script, *lines],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(ROOT), "HF_HOME": str(folder / "cache")} | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert "Traceback" not in process.stderr
    return process.stderr.splitlines()


def test_a_repository_is_downloaded_once_and_imported_again_without_a_network(
    hub: str, tmp_path: Path
) -> None:
    online = run_main(
        tmp_path,
        [
            "import gpt2 --out one",
            "import no/such --out x",
            "import gpt2 --revision v9 --out x",
        ],
        {"HF_ENDPOINT": hub},
    )
    assert online[-1] == "2" and "has no --revision v9; name a branch" in online[-2]
    assert "the hub has no repository no/such" in "".join(online)
    fetched = [path.rpartition("/")[2] for path in Hub.requested]
    assert sorted(set(fetched)) == sorted([
        "config.json", "merges.txt", "model-1.safetensors", "model.safetensors.index.json",
        "vocab.json", "generation_config.json", "tokenizer_config.json",
    ])  # fmt: skip
    offline = run_main(
        tmp_path,
        ["import gpt2 --out two", "import gpt2-medium --out x"],
        {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "1"},
    )
    assert len(Hub.requested) == len(fetched)
    assert offline[-1] == "2"
    assert "openai-community/gpt2-medium is not in the cache and the hub is out of" in offline[-2]
    for file in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert GPT2Model.load(tmp_path / "one").config.n_embd == 8
    assert not (tmp_path / "x").exists()


def test_a_hub_that_refuses_the_connection_ends_at_once_with_one_sentence(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    started = time.monotonic()
    lines = run_main(tmp_path, ["import gpt2 --out x"], {"HF_ENDPOINT": f"http://127.0.0.1:{port}"})
    assert lines[-1] == "2" and len(lines) == 2
    assert "openai-community/gpt2 is not in the cache and the hub is out of reach" in lines[-2]
    assert not (tmp_path / "x").exists()
    assert time.monotonic() - started < 15  # of which most is the import of torch


def say_nonsense(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(b"220 mail.example ESMTP\r\n")


@pytest.mark.filterwarnings("error")  # an exception in a thread is a warning to pytest
def test_a_server_answers_or_does_not(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    assert answers(hub)
    assert not answers(f"http://127.0.0.1:{port}")
    assert not answers("no address")
    assert not answers("http://no-such-host.invalid")
    with socket.create_server(("127.0.0.1", 0)) as no_http:
        threading.Thread(target=say_nonsense, args=[no_http], daemon=True).start()
        assert not answers(f"http://127.0.0.1:{no_http.getsockname()[1]}")
    monkeypatch.setattr(pretrained.hub, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never says a word
        started = time.monotonic()
        assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("status", "works"), [(401, True), (404, True), (500, False), (503, False)]
)
def test_a_server_that_is_out_of_order_does_not_count_as_an_answer(
    status: int, works: bool
) -> None:
    class Server(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert answers(f"http://127.0.0.1:{server.server_port}") == works
    server.shutdown()


def test_names_published_without_an_owner_have_one() -> None:
    assert OWNERS["gpt2-xl"] == "openai-community" and OWNERS["distilgpt2"] == "distilbert"
