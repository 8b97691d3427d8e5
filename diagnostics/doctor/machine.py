"""What this machine brings: facts that are always told, and what is missing.

Previous: english.py.  Next: command.py.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from cfg_gpt2 import DataConfig, TrainConfig
from data.sources import open_source
from diagnostics.doctor.curve import Diagnosis
from training.machine import describe_machine
from training.runtime import choose_runtime, is_faster_in_bf16, missing_compiler

GIGA = 10**9
LEAST_DISK = 2.0  # GB; a checkpoint of GPT-2 124M with model.safetensors takes as much
LEAST_MEMORY = 2.0  # GB; torch and the default run take less than one
PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@dataclass(frozen=True)
class MachineReport:
    """Facts by name, in the order of the table, and diagnoses."""

    facts: dict[str, str]
    found: list[Diagnosis]


def look_at_machine(data: DataConfig, folder: Path) -> MachineReport:
    """folder is where runs are going to be written."""
    machine = describe_machine()
    runtime = choose_runtime(TrainConfig())
    device = runtime.device.type
    memory, disk = free_memory(), shutil.disk_usage(folder).free
    compiler, found = missing_compiler(device), []
    facts = {
        "torch": f"{machine.torch}, Python {machine.python}, {machine.system}",
        "processor": f"{machine.cpu} ({', '.join(machine.instructions)})",
        "device": runtime.describe().split(",")[0] + (f", {machine.gpu}" if machine.gpu else ""),
        "bf16": "+" if is_faster_in_bf16(device) else "-",
        "compiler": f"- ({compiler})" if compiler else "+",
        "threads": f"{machine.threads} / {machine.cores}",
        "memory": f"{memory / GIGA:.1f} GB / {machine.memory / GIGA:.1f} GB" if memory else "?",
        "disk": f"{disk / GIGA:.1f} GB",
        "pages": PAGES.read_text(encoding="utf-8").strip() if PAGES.is_file() else "-",
        "data": ", ".join(data.path),
    }
    if device == "cpu" and not is_faster_in_bf16(device):
        found.append(Diagnosis("no_bf16", {}, wrong=False))
    if compiler:
        found.append(Diagnosis("no_compiler", {"missing": compiler}, wrong=False))
    if machine.threads < machine.cores and device == "cpu":
        values = {"threads": str(machine.threads), "cores": str(machine.cores)}
        found.append(Diagnosis("few_threads", values, wrong=False))
    if device == "cpu" and shutil.which("nvidia-smi") and not torch.cuda.is_available():
        found.append(Diagnosis("gpu_unused", {"torch": machine.torch}))
    if disk < LEAST_DISK * GIGA:
        values = {"free": f"{disk / GIGA:.1f}", "least": f"{LEAST_DISK:g}"}
        found.append(Diagnosis("disk_full", values))
    if memory and memory < LEAST_MEMORY * GIGA:
        values = {"free": f"{memory / GIGA:.1f}", "least": f"{LEAST_MEMORY:g}"}
        found.append(Diagnosis("memory_short", values))
    if "[never]" in facts["pages"]:
        found.append(Diagnosis("no_large_pages", {}, wrong=False))
    try:
        open_source(data)
    except (ValueError, OSError) as error:
        why = " ".join(str(error).split())
        found.append(Diagnosis("data_missing", {"why": why}))
    return MachineReport(facts, found)


def free_memory() -> int:
    """Bytes of main memory that can be had; 0 where the system does not say."""
    info = Path("/proc/meminfo")
    if info.is_file():
        lines = dict(line.split(":") for line in info.read_text(encoding="utf-8").splitlines())
        return 1024 * int(lines["MemAvailable"].split()[0]) if "MemAvailable" in lines else 0
    names = getattr(os, "sysconf_names", {})
    if "SC_AVPHYS_PAGES" in names:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return 0
