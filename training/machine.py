"""This machine: its description, which every measurement needs, and how much memory is free.

Previous: stop_signal.py.  Next: least_memory.py.
"""

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch

# what makes matmuls fast or slow, as Linux names it in /proc/cpuinfo
INSTRUCTIONS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_bf16",
    "asimd",
    "bf16",
    "sve",
)
# variables of the environment that change speed; every worker inherits them
TUNING = re.compile(
    r"(OMP|KMP|GOMP|MKL|OPENBLAS|DNNL|ONEDNN|MALLOC|TORCH|PYTORCH|CUDA|RAYON|TOKENIZERS|THP)_|"
    r"(LD_PRELOAD|GLIBC_TUNABLES|TORCHINDUCTOR_\w+)$"
)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and when something was measured."""

    date: str
    cpu: str
    cores: int  # that this process may use
    instructions: list[str]
    memory: int  # bytes; 0 where the system does not say
    gpu: str  # "" where there is none
    system: str
    python: str
    torch: str
    threads: int
    environment: dict[str, str]

    def lines(self) -> list[str]:
        """Returns three lines about the machine, its software and the date."""
        memory = f"{self.memory / 2**30:.0f} GiB" if self.memory else "unknown memory"
        tuned = ", ".join(f"{name}={value}" for name, value in self.environment.items())
        return [
            f"machine   {self.cpu}, {self.cores} cores ({', '.join(self.instructions)}), {memory}"
            + (f"; {self.gpu}" if self.gpu else "; no GPU"),
            f"software  {self.system}, Python {self.python}, torch {self.torch} "
            f"with {self.threads} thread{'' if self.threads == 1 else 's'}"
            + (f"; {tuned}" if tuned else ""),
            f"date      {self.date}",
        ]


def describe_machine() -> Machine:
    """Returns the description of this machine at this moment."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.is_file() else ""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return Machine(
        date=datetime.now().astimezone().isoformat(timespec="minutes"),
        cpu=cpu_name(text),
        cores=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        instructions=instructions(text),
        memory=memory_size(),
        gpu=gpu or ("Apple GPU (mps)" if torch.backends.mps.is_available() else ""),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        environment={k: shortened(v) for k, v in sorted(os.environ.items()) if TUNING.match(k)},
    )


def cpu_name(cpuinfo: str) -> str:
    """Returns the name of the processor from the text of /proc/cpuinfo, or from the system."""
    if match := re.search(r"^model name\s*: (.+)$", cpuinfo, flags=re.MULTILINE):
        return match[1].strip()
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, encoding="utf-8").stdout.strip()
    return platform.processor() or platform.machine()


def instructions(cpuinfo: str) -> list[str]:
    """Returns which of INSTRUCTIONS a /proc/cpuinfo names, or else torch's name of the best."""
    match = re.search(r"^(?:flags|Features)\s*: (.+)$", cpuinfo, flags=re.MULTILINE)
    present = match[1].split() if match else []
    return [name for name in INSTRUCTIONS if name in present] or [
        torch.backends.cpu.get_cpu_capability().lower()
    ]


def memory_size() -> int:
    """Returns the size of main memory in bytes; 0 where the system does not say."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return 0
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_memory() -> int | None:
    """Returns the bytes of main memory that can be had without swapping; None but on Linux."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None
    lines = dict(line.split(":") for line in info.read_text(encoding="utf-8").splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def container_memory() -> int | None:
    """Returns the bytes that a container's or a job's limit leaves (Linux, cgroup 2).

    None where there is no limit.
    """
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if not (limit.exists() and used.exists()) or limit.read_text().strip() == "max":
        return None
    return int(limit.read_text()) - int(used.read_text())


def total_memory(device: torch.device) -> int:
    """Returns the bytes of a device's memory, used or not, of a CPU's without swap.

    0 where the system does not say.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    limit, size = Path("/sys/fs/cgroup/memory.max"), memory_size()
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(size, int(text)) if size and text.isdecimal() else size


def free_memory(device: torch.device) -> int | None:
    """Returns the bytes of a device's memory that this process may still take.

    On a CPU that is what the machine and a container's limit leave, or half of the machine's
    memory where the system does not say. None where it says neither.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    available = available_memory()
    if available is None:
        available = memory_size() // 2 or None
    return min((size for size in (available, container_memory()) if size is not None), default=None)


def shortened(text: str) -> str:
    """Returns a text with file names in place of paths; other machines have other folders."""
    return re.sub(r"(?<![\w.])~?/[^\s,=:]*/([^\s,=:/]+)", r"\1", text)
