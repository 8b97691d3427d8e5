"""Files are written whole or not at all."""

import errno
import os
import stat
from pathlib import Path

import pytest
import torch

from run_directory.files import write_whole
from run_directory.weights import write_tensors


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "figures.txt"

    def fail_halfway(path: Path) -> None:
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(file, fail_halfway)
    assert list(file.parent.iterdir()) == []
    write_whole(file, lambda path: path.write_text("whole"))
    with pytest.raises(OSError, match="disk full"):
        write_whole(file, fail_halfway)
    assert file.read_text() == "whole"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_files_have_the_mode_that_the_umask_gives(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_tensors(tmp_path / "model.safetensors", {"w": torch.ones(2)})
        write_whole(tmp_path / "config.json", lambda path: path.write_text("{}"))
    finally:
        os.umask(before)
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask


def test_a_full_disk_names_the_file_and_not_its_temporary_name(tmp_path: Path) -> None:
    def fill(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with pytest.raises(OSError) as full:
        write_whole(tmp_path / "figures.txt", fill)
    assert full.value.filename == str(tmp_path / "figures.txt")
