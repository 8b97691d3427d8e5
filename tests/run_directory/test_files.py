"""Files are written whole or not at all."""

from pathlib import Path

import pytest

from run_directory.files import write_whole


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
