"""DTensor: a tensor of which each process of FSDP2 holds a part.

torch.distributed.tensor takes half a second to import, which one process does not need: where
nobody has imported it, no tensor is a DTensor.
Previous: adamw.py.  Next: muon.py.
"""

import sys
from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor


def is_dtensor(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Returns whether a tensor is distributed over processes."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def full_tensor(tensor: Tensor) -> Tensor:
    """Returns the whole of a DTensor, gathered from all processes; any other tensor as it is."""
    return tensor.full_tensor() if is_dtensor(tensor) else tensor


def local_part(tensor: Tensor) -> Tensor:
    """Returns the part of a DTensor that this process holds; any other tensor as it is."""
    return tensor.to_local() if is_dtensor(tensor) else tensor


def shard_like(full: Tensor, model: Tensor) -> Tensor:
    """Returns a tensor that every process has in full, distributed as `model` is.

    Nothing is exchanged. Where `model` is no DTensor, `full` is returned as it is.
    """
    if not is_dtensor(model):
        return full
    from torch.distributed.tensor import distribute_tensor  # see the header

    return distribute_tensor(full, model.device_mesh, model.placements, src_data_rank=None)


def part_like(part: Tensor, model: Tensor, mesh: "DeviceMesh") -> Tensor:
    """Returns this process's part as the DTensor of which it is a part, distributed as `model` is.

    The processes are those of `mesh`, on whose device the part lies. Where `model` is no DTensor,
    `part` is returned as it is.
    """
    if not is_dtensor(model):
        return part
    from torch.distributed.tensor import DTensor  # see the header

    return DTensor.from_local(
        part, mesh, model.placements, run_check=False, shape=model.shape, stride=model.stride()
    )
