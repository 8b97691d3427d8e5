"""`python main.py doctor [RUN]`: what is wrong with this machine, or with a run, and what to try.

    0    nothing is wrong         1    something is         2    the question was wrong

Texts stand in english.py and russian.py, thresholds in curve.py.
Previous: curve.py and machine.py.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from cfg_gpt2 import DataConfig
from commands.flags import parse_flags
from diagnostics.doctor import english, russian
from diagnostics.doctor.curve import Diagnosis, Run, diagnose, read_run
from diagnostics.doctor.machine import MachineReport, look_at_machine
from training.progress import new_console

Language = Literal["en", "ru"]
TABLES = {"en": english, "ru": russian}


@dataclass(frozen=True, kw_only=True)
class DoctorCommand:
    """Look at this machine and, given a run, at its curve: what is wrong, what to try."""

    run: tyro.conf.Positional[Path | None] = None
    """a run directory, such as runs/tiny; none: the machine only"""
    language: Language | None = None  # en or ru; None: as LC_ALL, LC_MESSAGES or LANG say
    json: bool = False  # everything as one line of JSON
    data: DataConfig = field(default_factory=DataConfig)


def doctor(arguments: list[str]) -> int:
    """Looks -> 0, or 1 where something is wrong."""
    command = parse_flags(DoctorCommand, "doctor", arguments)
    run = read_run(command.run) if command.run else None
    data = run.config.data if run and command.data == DataConfig() else command.data
    machine = look_at_machine(data, command.run or Path())
    curve = diagnose(run) if run else []
    found = [*machine.found, *curve]
    language = command.language or language_of(os.environ)
    if command.json:
        said = [asdict(d) | sentences(d, language) for d in found]
        print(json.dumps({"machine": machine.facts, "found": said}, ensure_ascii=False))
    else:
        show(new_console(), language, machine, run, curve)
    return int(any(diagnosis.wrong for diagnosis in found))


def language_of(environment: Mapping[str, str]) -> Language:
    """ru where the locale begins with ru, else en; the first variable that is set decides."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((environment[name] for name in names if environment.get(name)), "")
    return "ru" if locale.lower().startswith("ru") else "en"


def sentences(diagnosis: Diagnosis, language: Language) -> dict[str, str]:
    """What was seen, what it usually means, what to try."""
    texts = TABLES[language].TEXTS[diagnosis.name]
    filled = [text.format(**diagnosis.values) for text in texts]
    return dict(zip(("seen", "means", "try"), filled, strict=True))


def show(
    console: Console, language: Language, machine: MachineReport, run: Run | None,
    curve: list[Diagnosis],
) -> None:  # fmt: skip
    """Facts, then what was found, then a verdict."""
    labels = TABLES[language].LABELS
    width = max(len(labels[name]) for name in machine.facts)
    console.print(labels["machine"])
    for name, fact in machine.facts.items():
        console.print(f"  {labels[name].ljust(width)}  {fact}")
    show_found(console, language, machine.found)
    if run:
        console.print(f"\n{labels['run']}: {run.path}")
        console.print(f"  {curve_in_words(run, labels)}")
        show_found(console, language, curve)
    n_wrong = sum(diagnosis.wrong for diagnosis in (*machine.found, *curve))
    verdict = labels["n_wrong"].format(n=n_wrong) if n_wrong else labels["healthy"]
    console.print(f"\n{verdict}")


def show_found(console: Console, language: Language, found: list[Diagnosis]) -> None:
    """Faults first."""
    labels = TABLES[language].LABELS
    for diagnosis in sorted(found, key=lambda d: not d.wrong):
        said = sentences(diagnosis, language)
        console.print(f"\n  {labels['wrong' if diagnosis.wrong else 'note']}: {said['seen']}")
        console.print(f"    {labels['means']}: {said['means']}")
        console.print(f"    {labels['try']}: {said['try']}")


def curve_in_words(run: Run, labels: dict[str, str]) -> str:
    """Where it stands."""
    last = run.evaluations[-1] if run.evaluations else {}
    line = labels["curve"].format(
        step=int(run.lines[-1]["step"]),
        wanted=run.train.max_steps,
        train=f"{run.tenths[-1]:.4f}" if run.steps else "-",
        validation=f"{last['val_loss']:.4f}" if last else "-",
    )
    if floor := last.get("floor_bits_per_byte"):
        share = f"{last['val_bits_per_byte'] / floor - 1:.1%}"
        line += " " + labels["floor"].format(share=share)
    return line
