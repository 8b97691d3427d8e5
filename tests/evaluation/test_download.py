"""Downloads of published files, which are kept only with the right checksum."""

import hashlib
from pathlib import Path

import pytest

from evaluation import download as module
from evaluation.download import PUBLISHED, PublishedFile, download
from training.progress import new_console

CONTENT = b'{"text": "a b"}\n'


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that takes the place of the one on the network."""
    source = tmp_path / "source.jsonl"
    source.write_bytes(CONTENT)
    known = PublishedFile(source.as_uri(), hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    monkeypatch.setitem(PUBLISHED, "lambada", known)
    monkeypatch.chdir(tmp_path)
    return source


def test_a_file_is_downloaded_once(published: Path) -> None:
    file = download("lambada", new_console())
    assert file.read_bytes() == CONTENT and file.name == "source.jsonl"
    published.unlink()
    assert download("lambada", new_console()) == file


def test_a_download_with_another_checksum_is_refused_and_not_kept(published: Path) -> None:
    published.write_bytes(b"a captive portal")
    with pytest.raises(ValueError, match=r"has the SHA-256 .*, and the published file"):
        download("lambada", new_console())
    assert not Path("data").exists()


def test_a_changed_file_in_the_cache_is_refused(published: Path) -> None:
    download("lambada", new_console()).write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"source\.jsonl \(delete it\) has the SHA-256"):
        download("lambada", new_console())


def test_without_a_network_the_error_says_what_to_do(published: Path) -> None:
    published.unlink()
    with pytest.raises(OSError, match=r"cannot be downloaded: .* name it: --task lambada FILE"):
        download("lambada", new_console())
    assert not Path("data").exists()


def test_a_broken_connection_leaves_no_file(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(published: PublishedFile, bar: object) -> bytes:
        raise ConnectionResetError("the line went dead")

    monkeypatch.setattr(module, "download_bytes", broken)
    with pytest.raises(OSError, match="the line went dead"):
        download("lambada", new_console())
    assert not Path("data").exists()


def test_every_published_file_has_an_https_address_and_a_sha256() -> None:
    for known in PUBLISHED.values():
        assert known.url.startswith("https://") and len(bytes.fromhex(known.sha256)) == 32
