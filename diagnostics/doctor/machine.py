"""MachineReport: facts about this machine, and diagnoses of what it lacks.

Previous: finetuned.py.  Next: command.py.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from cfg_gpt2 import DataConfig, TrainConfig
from data.sources import open_source
from diagnostics.doctor.curve import Diagnosis
from training.choose_runtime import choose_runtime, is_faster_in_bf16, missing_compiler
from training.machine import Machine, available_memory, describe_machine

GIGA = 10**9
MIN_DISK = 2.0  # GB; a checkpoint of GPT-2 124M with model.safetensors takes as much
MIN_MEMORY = 2.0  # GB; torch and the default run take less than one
PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@dataclass(frozen=True)
class MachineReport:
    """Facts by name, in the order of the table, and diagnoses."""

    facts: dict[str, str]
    diagnoses: list[Diagnosis]


def examine_machine(data: DataConfig, folder: Path) -> MachineReport:
    """Returns the facts and diagnoses of this machine.

    data: the text that is going to be read; folder: the one that runs are going to be written to.
    """
    machine, device = describe_machine(), choose_runtime(TrainConfig()).device.type
    memory, disk = available_memory() or 0, shutil.disk_usage(folder).free
    pages = PAGES.read_text(encoding="utf-8").strip() if PAGES.is_file() else "-"
    missing = missing_compiler(device)
    facts = {
        "torch": f"torch {machine.torch}, Python {machine.python}, {machine.system}",
        "processor": f"{machine.cpu} ({', '.join(machine.instructions)})",
        "device": device + (f", {machine.gpu}" if machine.gpu else ""),
        "bf16": "+" if is_faster_in_bf16(device) else "-",
        "compiler": f"- ({missing})" if missing else "+",
        "threads": f"{machine.threads} / {machine.cores}",
        "memory": f"{memory / GIGA:.1f} GB / {machine.memory / GIGA:.1f} GB" if memory else "?",
        "disk": f"{disk / GIGA:.1f} GB",
        "pages": pages,
        "data": ", ".join(data.path),
    }
    diagnoses = [
        *diagnose_processor(machine, device),
        *diagnose_resources(memory, disk),
        *([Diagnosis("no_large_pages", wrong=False)] if "[never]" in pages else []),
        *diagnose_data(data),
    ]
    return MachineReport(facts, diagnoses)


def diagnose_processor(machine: Machine, device: str) -> list[Diagnosis]:
    """Returns what keeps computations slow on a device, cpu or cuda or mps."""
    diagnoses = []
    if device == "cpu" and not is_faster_in_bf16(device):
        diagnoses.append(Diagnosis("no_bf16", wrong=False))
    if missing := missing_compiler(device):
        diagnoses.append(Diagnosis("no_compiler", {"missing": missing}, wrong=False))
    if machine.threads < machine.cores and device == "cpu":
        values = {"threads": str(machine.threads), "cores": str(machine.cores)}
        diagnoses.append(Diagnosis("few_threads", values, wrong=False))
    if device == "cpu" and shutil.which("nvidia-smi") and not torch.cuda.is_available():
        diagnoses.append(Diagnosis("gpu_unused", {"torch": machine.torch}))
    return diagnoses


def diagnose_resources(memory: int, disk: int) -> list[Diagnosis]:
    """Returns a diagnosis for each kind of bytes of which too few are free; memory 0: unknown."""
    diagnoses = []
    if disk < MIN_DISK * GIGA:
        values = {"free": f"{disk / GIGA:.1f}", "least": f"{MIN_DISK:g}"}
        diagnoses.append(Diagnosis("disk_full", values))
    if memory and memory < MIN_MEMORY * GIGA:
        values = {"free": f"{memory / GIGA:.1f}", "least": f"{MIN_MEMORY:g}"}
        diagnoses.append(Diagnosis("memory_short", values))
    return diagnoses


def diagnose_data(data: DataConfig) -> list[Diagnosis]:
    """Returns a diagnosis where the text of a run cannot be opened."""
    try:
        open_source(data)
    except (ValueError, OSError) as error:
        return [Diagnosis("data_missing", {"why": " ".join(str(error).split())})]
    return []
