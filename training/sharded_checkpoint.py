"""A checkpoint in several files: each process writes the part that it holds, and reads its own.

    shard-00001-model-00001-of-00001.safetensors      of the first process, and so on

torch.distributed.checkpoint decides which process writes what, and another number of processes
can read what these have written. Its safetensors storage records in the header of a file which
part of a tensor it holds; the pickle of its usual storage is never written, and never read.
Previous: checkpoint.py.  Next: best_checkpoint.py.
"""

import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import (
    CheckpointException,
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor

PATIENCE = 60.0  # seconds; another host may see a file later than it was written


def write_shards(folder: Path, tensors: Mapping[str, Tensor], group: dist.ProcessGroup) -> None:
    """Writes the tensors of all processes of a group, each of which calls it and waits.

    Each process writes its own part of a DTensor; one of them writes a tensor that all have.
    Raises OSError in all of them where one cannot write.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        dcp.save(dict(tensors), storage_writer=writer, process_group=group)
    except CheckpointException as error:  # which is no subclass of Exception
        raise reason_of(error) from None


def wait_for_shards(folder: Path, n_ranks: int) -> None:
    """Waits until this process sees the files of all processes, of which each has written some.

    Raises OSError where it does not see them, as on hosts with a disk of their own each.
    """
    deadline = time.monotonic() + PATIENCE
    while missing := set(range(n_ranks)) - {rank_of(file) for file in folder.glob("shard-*")}:
        if time.monotonic() > deadline:
            raise OSError(
                f"the part of process {min(missing)} is not to be seen by the first one; the run's "
                "directory must lie on a file system that all hosts share"
            )
        time.sleep(0.05)


def rank_of(file: Path) -> int:
    """Returns the number of the process that wrote a shard, from the name of the file."""
    return int(file.name.split("-")[1]) - 1


def read_shards(folder: Path, like: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Returns the tensors of a folder whose names begin with a prefix, however many wrote it.

    Where like[NAME] is a DTensor, this process reads its own part of tensors named kind/NAME/...
    Raises ValueError where a file cannot be read.
    """
    reader = HuggingFaceStorageReader(str(folder))
    tensors: dict[str, Tensor] = {}
    for name, saved in reader.read_metadata().state_dict_metadata.items():
        if not name.startswith(prefix):
            continue
        assert isinstance(saved, TensorStorageMetadata)  # a safetensors file has nothing else
        model = like.get(name.partition("/")[2].partition("/")[0])
        if isinstance(model, DTensor) and model.shape == saved.size:
            tensors[name] = torch.empty_like(model, dtype=saved.properties.dtype)
        else:
            tensors[name] = torch.empty(saved.size, dtype=saved.properties.dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*single process")  # nothing is exchanged
        try:
            dcp.load(tensors, storage_reader=reader, no_dist=True)
        except CheckpointException as error:
            raise ValueError(f"{folder} cannot be read: {reason_of(error)}") from None
    return tensors


def reason_of(error: CheckpointException) -> BaseException:
    """Returns the error of the first process that failed, with that process's number."""
    rank, (reason, _) = min(error.failures.items(), key=lambda failure: failure[0])
    if isinstance(reason, OSError) and reason.errno is not None:
        return OSError(reason.errno, f"{reason.strerror}, says process {rank}")
    return reason
