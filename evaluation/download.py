"""The published files of the tasks, with the checksums under which others have published them.

    lambada    OpenAI's test set, 5,153 passages     hellaswag  the validation set, 10,042 scenes

Previous: hellaswag.py.  Next: result.py.
"""

import hashlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from rich.console import Console

from cfg_gpt2 import DataConfig, require
from run_directory.files import write_whole
from training.progress import Bar

PIECE = 1 << 16  # bytes
PATIENCE = 30  # seconds without a byte


@dataclass(frozen=True)
class Published:
    """A file and how to know it."""

    url: str
    sha256: str
    n_bytes: int


PUBLISHED = {
    "lambada": Published(
        "https://openaipublic.blob.core.windows.net/gpt-2/data/lambada_test.jsonl",
        "4aa8d02cd17c719165fc8a7887fddd641f43fcafa4b1c806ca8abc31fabdb226",
        1_819_752,
    ),
    "hellaswag": Published(
        "https://raw.githubusercontent.com/rowanz/hellaswag/master/data/hellaswag_val.jsonl",
        "0aa3b88843990f3f10a97b9575c94d7b71fb2205240ba04ae4884d9e9c992588",
        12_246_618,
    ),
}


def download(task: str, console: Console) -> Path:
    """The task's file, from the cache or the network.

    Raises OSError without a network, ValueError where another file came than was published.
    """
    wanted = PUBLISHED[task]
    file = Path(DataConfig().cache_dir) / wanted.url.rpartition("/")[2]
    if file.is_file():
        require_checksum(file.read_bytes(), wanted, f"{file} (delete it)")
        return file
    try:
        with Bar(console, f"downloading {file.name}", wanted.n_bytes) as bar:
            content = content_of(wanted, bar)
    except (OSError, HTTPException) as error:
        raise OSError(
            f"{wanted.url} cannot be downloaded: {error}; place the file somewhere by other "
            f"means and name it: --task {task} FILE"
        ) from None
    require_checksum(content, wanted, wanted.url)
    write_whole(file, lambda part: part.write_bytes(content))
    return file


def require_checksum(content: bytes, wanted: Published, where: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    require(
        found == wanted.sha256,
        f"{where} has the SHA-256 {found}, and the published file {wanted.sha256}; "
        "a file that you trust can be named behind --task",
    )


def content_of(wanted: Published, bar: Bar) -> bytes:
    """All bytes of the file."""
    content = bytearray()
    with urlopen(wanted.url, timeout=PATIENCE) as answer:
        while piece := answer.read(PIECE):
            content += piece
            bar.move(min(len(content), wanted.n_bytes), f"{len(content) / 1e6:.1f} MB")
    return bytes(content)
