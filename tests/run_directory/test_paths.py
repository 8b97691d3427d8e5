"""What a user typed becomes a path that works, or one sentence that names the flag."""

import errno
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from commands.flags import parse_flags
from run_directory.paths import explain, kind_of, require_file, require_folder, user_path

BAD_BYTES = os.fsdecode(b"runs/\xca\xed")  # a Russian name in CP1251


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("~/runs/a", "HOME/runs/a"),
        ("~", "HOME"),
        ("runs/a/", "runs/a"),
        ("./runs//a", "runs/a"),
        ("a/..", "."),
        ("a/../b", "b"),
        ("../x", "../x"),
        ("/a/b/../c", "/a/c"),
        ('a b\'s "c"', 'a b\'s "c"'),
        ("~no-such-user/~", "~no-such-user/~"),
        ("./~x", "~x"),
        ("-notes.txt", "-notes.txt"),
        ("книги/*.txt", "книги/*.txt"),
    ],
)
def test_a_typed_path_is_what_it_says(
    text: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_path(text, "--out") == Path(path.replace("HOME", str(tmp_path / "home")))


def test_dots_follow_links_as_the_system_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "far" / "inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to("far/inside")
    assert user_path("link/../run", "--out") == Path("far/run")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "--out is empty; give it a path"),
        ("  ", "--out is empty"),
        (BAD_BYTES, r"--out runs/\xca\xed is not UTF-8"),
        ("a\0b", r"--out a\0b has a zero byte"),
        ("a" * 300, "--out: "),
    ],
)
def test_what_can_be_no_path_is_refused_with_its_flag(text: str, sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        user_path(text, "--out")
    assert str(refused.value).startswith(sentence)
    str(refused.value).encode()  # it can be printed


@dataclass(frozen=True, kw_only=True)
class DataFlags:
    """Flags of which one is a path that stays text."""

    path: tuple[str, ...] = ()
    cache_dir: str = "data/cache"


@dataclass(frozen=True, kw_only=True)
class Command:
    """Flags of every form in which commands take paths."""

    out: Path | None = None
    compare: tuple[Path, ...] = ()
    data: DataFlags = field(default_factory=DataFlags)


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["--out", BAD_BYTES], "--out runs"),
        (["--out="], "--out is empty"),
        (["--out", ""], "--out is empty"),
        (["--compare", "a", BAD_BYTES], "--compare runs"),
        (["--compare", "a", ""], "--compare is empty"),
        (["--data.path", "a", BAD_BYTES], "--data.path runs"),
        (["--data.path", ""], "--data.path is empty"),
        (["--data.cache-dir", BAD_BYTES], "--data.cache-dir runs"),
        (["--data.cache-dir", "c" * 256], "--data.cache-dir: ccc"),
    ],
)
def test_every_flag_that_takes_a_path_refuses_what_can_be_none(
    arguments: list[str], flag: str
) -> None:
    with pytest.raises(ValueError) as refused:
        parse_flags(Command, "train", arguments)
    assert str(refused.value).startswith(flag)


def test_flags_become_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = ["--out=~/a/", "--compare", "b/", ".", "--data.path", "~/x.txt"]
    command = parse_flags(Command, "train", arguments)
    assert command.out == tmp_path / "a"
    assert command.compare == (Path("b"), Path())
    assert command.data.path == ("~/x.txt",)  # as typed, for config.json


def test_kinds_of_paths(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    kinds = {name: kind_of(tmp_path / name) for name in ("file", "link", "pipe", "nothing")}
    assert kinds == {"file": "file", "link": "file", "pipe": "stream", "nothing": "missing"}
    assert kind_of(tmp_path) == "folder"
    assert kind_of(tmp_path / "file" / "x") == "missing"
    assert kind_of(Path(os.devnull)) == "stream"
    assert kind_of(Path("/dev/zero")) == "device"


def test_a_link_that_leads_nowhere_or_in_a_circle_is_named(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("/nowhere")
    with pytest.raises(FileNotFoundError, match=r"dangling is a link to /nowhere, which does not"):
        kind_of(tmp_path / "dangling")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError) as circle:
        kind_of(tmp_path / "a")
    assert f"{tmp_path / 'a'} cannot be used: " in explain(circle.value)
    assert "its links lead in a circle" in explain(circle.value)


def test_an_input_is_a_file_that_may_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    require_file(file, "name a text file", "--prompt-file")
    require_folder(tmp_path, "name one")
    with pytest.raises(ValueError, match=r"--prompt-file .* is a folder, not a file; name a text"):
        require_file(tmp_path, "name a text file", "--prompt-file")
    with pytest.raises(FileNotFoundError, match=r"--prompt-file .*none does not exist; name a"):
        require_file(tmp_path / "none", "name a text file", "--prompt-file")
    with pytest.raises(ValueError, match="is a file, not a folder; name one"):
        require_folder(file, "name one")
    monkeypatch.setattr(os, "access", lambda *asked, **how: False)  # root may read everything
    with pytest.raises(PermissionError) as denied:
        require_file(file, "name a text file")
    assert f"{file} cannot be used: Permission denied; give" in explain(denied.value)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "give yourself the right to it"),
        (errno.EROFS, "name a path on another disk"),
        (errno.ENOSPC, "free some space"),
        (errno.ENOTDIR, "a part of it is a file where a folder is needed"),
        (errno.EEXIST, "name another path"),
    ],
)
def test_an_error_of_the_system_becomes_a_sentence(number: int, advice: str) -> None:
    sentence = explain(OSError(number, os.strerror(number), BAD_BYTES))
    assert sentence.startswith(rf"runs/\xca\xed cannot be used: {os.strerror(number)}; {advice}")
    assert "[Errno" not in sentence


def test_an_error_with_a_sentence_keeps_it() -> None:
    assert explain(FileNotFoundError("x does not exist; name one")) == "x does not exist; name one"
    moved = explain(OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"))
    assert moved == "a to b cannot be used: Invalid cross-device link"


def test_paths_are_checked_without_torch() -> None:
    code = "import sys; import run_directory.paths; sys.exit('torch' in sys.modules)"
    assert os.spawnl(os.P_WAIT, sys.executable, "python", "-c", code) == 0


def test_no_other_module_expands_the_home_directory() -> None:
    """Path.expanduser raises RuntimeError for a user who does not exist."""
    root = Path(__file__).parents[2]
    modules = [p for p in root.rglob("*.py") if not {".venv", "tests"} & {*p.parts}]
    using = {p.name for p in modules if "expanduser(" in p.read_text(encoding="utf-8")}
    assert using == {"paths.py"}
