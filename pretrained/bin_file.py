"""pytorch_model.bin: a pickle of tensors, read without running what it names.

torch's reader takes tensors from it and refuses everything else. Before it begins, the sizes in
the archive are compared with the size of the file, since torch.save compresses nothing; what it
has read is compared as well, since a small storage can be viewed as a tensor of any shape.
Previous: config_json.py.  Next: read_weights.py.
"""

import zipfile
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from cfg_gpt2 import require
from run_directory.json_file import shortened

PICKLE = b"\x80"  # the first byte of every pickle since protocol 2, which torch.save writes
DOWNLOAD_AGAIN = "download or copy it again"


def load_bin(file: Path) -> dict[str, Tensor]:
    """Returns the tensors of a .bin by name. Raises ValueError where it holds anything else."""
    require_honest_size(file)
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise ValueError(
            f"{file} is a pickle with more than tensors in it and is not opened, "
            "for that could run code; take model.safetensors instead"
        ) from None
    except Exception as error:  # noqa: BLE001  a wrong byte makes the reader raise anything
        raise ValueError(f"{file} cannot be read: {first_line(error)}; {DOWNLOAD_AGAIN}") from None
    named = isinstance(loaded, dict) and all(isinstance(name, str) for name in loaded)
    require(
        named and all(isinstance(tensor, Tensor) for tensor in loaded.values()),
        f"{file} is no table of tensors; {DOWNLOAD_AGAIN}",
    )
    for name, tensor in loaded.items():
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        require(
            plain and tensor.numel() * tensor.element_size() <= file.stat().st_size,
            f"{file}: {shortened(name)} is not stored number by number; save it again by "
            "torch.save",
        )
    return loaded


def require_honest_size(file: Path) -> None:
    """Raises ValueError for a file that torch.save has not written, or that expands when read."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        begin = opened.read(4)
    if begin != b"PK\x03\x04":
        # torch.load takes other files for pickles of protocol 0, which are text
        require(begin[:1] == PICKLE, f"{file} cannot be read: it is no pickle; {DOWNLOAD_AGAIN}")
        return
    try:
        with zipfile.ZipFile(file) as archive:
            expanded = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError) as error:
        raise ValueError(f"{file} cannot be read: {first_line(error)}; {DOWNLOAD_AGAIN}") from None
    require(
        expanded <= size,
        f"{file} has {size:,} bytes and expands to {expanded:,}; torch.save compresses nothing, "
        "so this file is not read",
    )


def first_line(error: Exception) -> str:
    """Returns the first line of an error; torch's further lines advise to unpickle after all."""
    return shortened((str(error) or type(error).__name__).partition("\n")[0])
