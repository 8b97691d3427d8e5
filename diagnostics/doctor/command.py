"""`python main.py doctor [RUN]`: faults of this machine or of a run, and what to try.

    exit status   0: nothing is wrong    1: something is wrong    2: a flag or the run is unusable

The texts are in english.py and russian.py, the thresholds in curve.py and machine.py.
Previous: machine.py.
"""

import os
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from cfg_gpt2 import DataConfig
from commands.language import Language, language_of
from diagnostics.doctor import english, russian
from diagnostics.doctor.curve import Diagnosis, Run, diagnose, read_run
from diagnostics.doctor.finetuned import diagnose_finetuned
from diagnostics.doctor.machine import MachineReport, examine_machine
from diagnostics.doctor.settings import DoctorCommand
from run_directory.printable import json_line
from training.progress import new_console

TABLES = {"en": english, "ru": russian}


def doctor(command: DoctorCommand) -> int:
    """Prints facts and diagnoses, and returns 0, or 1 where something is wrong."""
    run = read_run(command.run) if command.run else None
    has_text = run and not run.finetuning  # a finetuned run can do without its base's text
    data = run.config.data if run and has_text and command.data == DataConfig() else command.data
    machine = examine_machine(data, command.run or Path())
    curve = diagnose_run(run) if run else []
    diagnoses = [*machine.diagnoses, *curve]
    language = command.language or language_of(os.environ)
    if command.json:
        records = [asdict(d) | sentences(d, language) for d in diagnoses]
        found = {"machine": machine.facts, "found": records}
        print(json_line(found, sys.stdout.encoding))
    else:
        show(new_console(), language, machine, run, curve)
    return int(any(diagnosis.wrong for diagnosis in diagnoses))


def diagnose_run(run: Run) -> list[Diagnosis]:
    """Returns every diagnosis of a run, whatever it has learned from."""
    return diagnose_finetuned(run, run.finetuning) if run.finetuning else diagnose(run)


def sentences(diagnosis: Diagnosis, language: Language) -> dict[str, str]:
    """Returns the observation, its usual cause, and what to try, in a language."""
    texts = TABLES[language].TEXTS[diagnosis.name]
    values = {name: in_language(value, language) for name, value in diagnosis.values.items()}
    filled = [text.format(**values) for text in texts]
    return dict(zip(("seen", "means", "try"), filled, strict=True))


def in_language(fact: str, language: Language) -> str:
    """Returns a fact or a figure with the units and the words of a language."""
    for english_word, word in TABLES[language].WORDS.items():
        fact = fact.replace(english_word, word)
    return fact


def show(
    console: Console,
    language: Language,
    machine: MachineReport,
    run: Run | None,
    curve: list[Diagnosis],
) -> None:
    """Prints the facts, the diagnoses, and a verdict."""
    labels = TABLES[language].LABELS
    width = max(len(labels[name]) for name in machine.facts)
    console.print(labels["machine"])
    for name, fact in machine.facts.items():
        console.print(f"  {labels[name].ljust(width)}  {in_language(fact, language)}")
    show_diagnoses(console, language, machine.diagnoses)
    if run:
        console.print(f"\n{labels['run']}: {run.path}")
        console.print(f"  {curve_summary(run, language)}")
        show_diagnoses(console, language, curve)
    n_wrong = sum(diagnosis.wrong for diagnosis in (*machine.diagnoses, *curve))
    verdict = labels["n_wrong"].format(n=n_wrong) if n_wrong else labels["healthy"]
    console.print(f"\n{verdict}")


def show_diagnoses(console: Console, language: Language, diagnoses: list[Diagnosis]) -> None:
    """Prints the sentences of each diagnosis, faults first."""
    labels = TABLES[language].LABELS
    for diagnosis in sorted(diagnoses, key=lambda d: not d.wrong):
        texts = sentences(diagnosis, language)
        console.print(f"\n  {labels['wrong' if diagnosis.wrong else 'note']}: {texts['seen']}")
        console.print(f"    {labels['means']}: {texts['means']}")
        console.print(f"    {labels['try']}: {texts['try']}")


def curve_summary(run: Run, language: Language) -> str:
    """Returns a sentence with the run's last step and losses."""
    labels, last = TABLES[language].LABELS, run.evaluations[-1] if run.evaluations else {}
    line = labels["curve"].format(
        step=int(run.lines[-1]["step"]),
        max_steps=run.train.max_steps,
        train=f"{run.tenths[-1]:.4f}" if run.steps else "-",
        validation=f"{last['val_loss']:.4f}" if last else "-",
        unit=in_language(run.units.loss, language),
    )
    if run.floors:
        bits, floor = run.floors[-1]
        excess = f"{bits / floor - 1:.1%}"
        line += " " + labels["floor"].format(excess=excess)
    return line
