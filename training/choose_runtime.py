"""Which device, precision, compilation and strategy a run gets: the settings, and what is present.

    device      a GPU where there is one
    precision   bf16 where the device has instructions for it, else fp32
    compile     the blocks of a large model, where there is a compiler
    strategy    one process, or DDP where torchrun has started several

Previous: parallel.py.  Next: micro_batch.py.
"""

from importlib.util import find_spec
from shutil import which

import torch

from cfg_gpt2 import GPT2Config, TrainConfig, require
from training.runtime import Ranks, Runtime

LARGE = 10_000_000  # weights in the blocks; smaller models gain less than compiling costs
TORCHRUN = "torchrun --standalone --nproc-per-node 2 main.py ..."
DEVICES = ("cuda", "mps", "cpu")  # the best first


def choose_runtime(
    config: TrainConfig,
    sizes: GPT2Config | None = None,
    ranks: Ranks | None = None,
    *,
    flags: str = "--train.",
) -> Runtime:
    """Returns where and how to compute: what the settings ask for, or the best that is present.

    Args:
        config: of which all settings from device on count.
        sizes: of the model; without them nothing is compiled unless config.compile is "on".
        ranks: which process this is; None: the only one.
        flags: how the calling command's flags begin, for the messages of errors.
    Raises ValueError where the settings ask for what is not present.
    """
    ranks = ranks or Ranks()
    runtime = choose_strategy(config.strategy, ranks, flags)
    device = choose_device(config.device, flags)
    require(
        device != "mps" or runtime is Runtime,
        f"several processes run on {flags}device cpu or cuda, not on mps; leave torchrun out",
    )
    require(
        device != "cuda" or ranks.n_local <= torch.cuda.device_count(),
        f"--nproc-per-node {ranks.n_local} is more than the {torch.cuda.device_count()} GPUs "
        "of this host; start one process for each",
    )
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if is_faster_in_bf16(device) else "fp32"
    missing = missing_compiler(device)
    require(
        config.compile != "on" or missing is None,
        f"{flags}compile on needs {missing}, which is not here; leave it out",
    )
    large = sizes is not None and is_large(sizes)
    pays = large and device != "mps"  # the compiler's code for it was never measured
    compiled = config.compile == "on" or (config.compile == "auto" and pays)
    has_tiles = device == "cpu" and torch.cpu._is_amx_tile_supported()
    return runtime(
        torch.device(device, ranks.local_rank) if device == "cuda" else torch.device(device),
        torch.bfloat16 if precision == "bf16" else torch.float32,
        compiled and not missing,
        missing if compiled else None,
        config.activation_checkpointing,
        has_tiles and precision == "bf16" and large,
        ranks,
        config.deterministic,
    )


def choose_device(name: str, flags: str) -> str:
    """Returns the device type that a name means: cuda, mps or cpu.

    Raises ValueError where that device is not present.
    """
    is_present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    present = [device for device in DEVICES if is_present[device]]
    if name == "auto":
        return present[0]
    require(
        name in present,
        f"{flags}device {name} is not present here; present: {', '.join(present)}",
    )
    return name


def choose_strategy(strategy: str, ranks: Ranks, flags: str) -> type[Runtime]:
    """Returns the class of runtime that a strategy means for these processes.

    Raises ValueError where the strategy is not for this number of processes.
    """
    if strategy == "auto":
        strategy = "ddp" if ranks.n_ranks > 1 else "single"
    if strategy == "single":
        require(
            ranks.n_ranks == 1,
            f"{flags}strategy single is one process, torchrun has started {ranks.n_ranks}; "
            f"leave torchrun out, or take {flags}strategy ddp",
        )
        return Runtime
    require(
        ranks.from_torchrun,
        f"{flags}strategy {strategy} is for processes that torchrun starts; "
        f"write {TORCHRUN}, or leave it out",
    )
    from training.parallel import DDPRuntime, FSDPRuntime  # a second that one process does not need

    return DDPRuntime if strategy == "ddp" else FSDPRuntime


def is_large(sizes: GPT2Config) -> bool:
    """Returns whether compiling a model of these sizes pays for the time that it takes."""
    return 12 * sizes.n_layer * sizes.n_embd**2 >= LARGE


def missing_compiler(device: str) -> str | None:
    """Returns what this machine lacks to compile for a device type; None where it lacks nothing."""
    if device == "cuda":
        return None if find_spec("triton") else "the package triton"
    if device == "mps" or any(map(which, ("c++", "g++", "clang++", "cl"))):
        return None
    return "a C++ compiler"


def is_faster_in_bf16(device: str) -> bool:
    """Returns whether a device type has instructions for bf16 matmuls on this machine."""
    if device == "cuda":
        return torch.cuda.get_device_capability()[0] >= 8
    if device == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False
