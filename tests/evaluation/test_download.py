"""The published files: their checksums decide, whatever the network sends."""

import hashlib
from pathlib import Path

import pytest

from evaluation import download as module
from evaluation.download import PUBLISHED, Published, download
from training.progress import new_console

CONTENT = b'{"text": "a b"}\n'


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that takes the place of the one on the network."""
    source = tmp_path / "source.jsonl"
    source.write_bytes(CONTENT)
    known = Published(source.as_uri(), hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    monkeypatch.setitem(PUBLISHED, "lambada", known)
    monkeypatch.chdir(tmp_path)
    return source


def test_a_file_is_downloaded_once(published: Path):
    file = download("lambada", new_console())
    assert file.read_bytes() == CONTENT and file.name == "source.jsonl"
    published.unlink()
    assert download("lambada", new_console()) == file


def test_another_file_than_was_published_is_refused_and_not_kept(published: Path):
    published.write_bytes(b"a captive portal")
    with pytest.raises(ValueError, match=r"has the SHA-256 .*, and the published file"):
        download("lambada", new_console())
    assert not Path("data").exists()


def test_a_file_in_the_cache_that_was_changed_is_refused(published: Path):
    download("lambada", new_console()).write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"source\.jsonl \(delete it\) has the SHA-256"):
        download("lambada", new_console())


def test_without_a_network_the_sentence_says_what_to_do(published: Path):
    published.unlink()
    with pytest.raises(OSError, match=r"cannot be downloaded: .* name it: --task lambada FILE"):
        download("lambada", new_console())
    assert not Path("data").exists()


def test_a_broken_connection_leaves_nothing(published: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(wanted: Published, bar: object) -> bytes:
        raise ConnectionResetError("the line went dead")

    monkeypatch.setattr(module, "content_of", broken)
    with pytest.raises(OSError, match="the line went dead"):
        download("lambada", new_console())
    assert not Path("data").exists()


def test_every_task_that_can_be_downloaded_has_a_checksum():
    for known in PUBLISHED.values():
        assert known.url.startswith("https://") and len(bytes.fromhex(known.sha256)) == 32
