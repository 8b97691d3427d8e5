"""Downloads of the tasks' published files, checked by the SHA-256 that other projects publish.

    lambada    OpenAI's test set, 5,153 passages     hellaswag  the validation set, 10,042 scenes

Previous: exam.py.  Next: measure_harness.py.
"""

import hashlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from rich.console import Console

from cfg_gpt2 import DataConfig, require
from run_directory.files import write_whole
from run_directory.lock import in_turn
from training.progress import Bar

CHUNK_BYTES = 1 << 16
TIMEOUT = 30  # seconds without a byte


@dataclass(frozen=True)
class PublishedFile:
    """Where a file is published, and its checksum and size."""

    url: str
    sha256: str
    n_bytes: int


PUBLISHED = {
    "lambada": PublishedFile(
        "https://openaipublic.blob.core.windows.net/gpt-2/data/lambada_test.jsonl",
        "4aa8d02cd17c719165fc8a7887fddd641f43fcafa4b1c806ca8abc31fabdb226",
        1_819_752,
    ),
    "hellaswag": PublishedFile(
        "https://raw.githubusercontent.com/rowanz/hellaswag/master/data/hellaswag_val.jsonl",
        "0aa3b88843990f3f10a97b9575c94d7b71fb2205240ba04ae4884d9e9c992588",
        12_246_618,
    ),
}


def download(task: str, console: Console) -> Path:
    """Returns the file of a task, from the cache or from the network.

    Raises OSError without a network, ValueError for a file with another checksum.
    """
    published = PUBLISHED[task]
    file = Path(DataConfig().cache_dir) / published.url.rpartition("/")[2]
    said: set[str] = set()

    def waiting(process: str) -> None:
        if process not in said:
            said.add(process)
            console.print(f"waiting for {process}, which downloads {file.name}")

    if not file.is_file():
        with in_turn(file, waiting):
            if not file.is_file():
                fetch(task, file, console)
    require_checksum(file.read_bytes(), published, f"{file} (delete it)")
    return file


def fetch(task: str, file: Path, console: Console) -> None:
    """Downloads the file of a task. Raises as `download` does."""
    published = PUBLISHED[task]
    try:
        with Bar(console, f"downloading {file.name}", published.n_bytes) as bar:
            content = download_bytes(published, bar)
    except (OSError, HTTPException) as error:
        raise OSError(
            f"{published.url} cannot be downloaded: {error}; place the file somewhere by other "
            f"means and name it: --task {task} FILE"
        ) from None
    require_checksum(content, published, published.url)
    write_whole(file, lambda path: path.write_bytes(content))


def require_checksum(content: bytes, published: PublishedFile, where: str) -> None:
    """Raises ValueError for a content that does not have the published checksum."""
    sha256 = hashlib.sha256(content).hexdigest()
    require(
        sha256 == published.sha256,
        f"{where} has the SHA-256 {sha256}, and the published file {published.sha256}; "
        "a file that you trust can be named behind --task",
    )


def download_bytes(published: PublishedFile, bar: Bar) -> bytes:
    """Downloads all bytes of a file."""
    content = bytearray()
    with urlopen(published.url, timeout=TIMEOUT) as response:
        while chunk := response.read(CHUNK_BYTES):
            content += chunk
            bar.move(min(len(content), published.n_bytes), f"{len(content) / 1e6:.1f} MB")
    return bytes(content)
