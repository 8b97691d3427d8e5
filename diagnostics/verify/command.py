"""`python main.py verify [RUN]`: every fast path equals the written-out one.

    pass        |fast - plain| <= bound, for the largest difference that was found
    FAIL        it is larger, or the path broke down or was not taken; exit status 1
    not here    this machine or this model has no such path; the reason stands beside it

Previous: ../main.py.  Next: rounding.py.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from cfg_gpt2 import TrainConfig, require
from commands.flags import parse_flags
from decoding.settings import Repeated
from diagnostics.verify.check import Check, Row, run_check
from diagnostics.verify.checks import (
    attention,
    formats,
    learning,
    machines,
    quantized,
    reading,
    writing,
)
from diagnostics.verify.subject import Subject, small_subject, subject_of_run
from training.progress import Bar, new_console
from training.runtime import choose_runtime

CHECKS = [
    Check("fused", "fused attention", "the formula", attention.whole_text),
    Check("fused-cache", "fused attention, cached", "formula, cached", attention.behind_a_cache),
    Check("fused-backward", "fused attention, gradients", "the formula's", attention.backwards),
    Check("cached", "text read in pieces", "read whole", reading.cached),
    Check("reused", "cache cleared and cut back", "no cache", reading.reused),
    Check("unequal", "unequal texts in a batch", "each alone", reading.unequal),
    Check("shared", "common beginning read once", "each alone", reading.shared),
    Check("long", "text past the context", "its window alone", reading.past_the_context),
    Check("streamed", "tokens streamed", "written whole", writing.streamed),
    Check("streamed-text", "text streamed", "decoded whole", writing.streamed_text),
    Check("speculative", "guesses checked together", "greedy, one by one", writing.speculative),
    Check("beams", "beams, cached", "each text alone", writing.beams),
    Check("head", "output layer and loss in one", "all logits, then loss", learning.head_and_loss),
    Check("padded", "padded windows", "each alone", learning.padded_windows),
    Check("adamw", "fused AdamW", "its formula", learning.adamw),
    Check("muon", "Muon on stacked matrices", "one by one", learning.muon),
    Check("resumed", "training resumed", "not interrupted", learning.resumed),
    Check("compiled", "compiled blocks", "as written", machines.compiled),
    Check("bf16", "bf16 products", "fp32", machines.bf16),
    Check("bf16-backward", "bf16 products, gradients", "fp32", machines.bf16_backwards),
    Check("bf16-fused", "fused attention in bf16", "the formula in bf16", machines.bf16_fused),
    Check("device", "this device", "the CPU", machines.other_device),
    Check("int8", "int8 weights", "fp32 weights", quantized.int8_weights),
    Check("int8-kernel", "int8 weights, few rows", "made into floats", quantized.int8_kernel),
    Check("exported", "exported, in transformers", "the run itself", formats.exported_model),
    Check("spelled", "exported tokenizer", "the run's own", formats.exported_tokenizer),
]


@dataclass(frozen=True, kw_only=True)
class VerifyCommand:
    """Prove that every fast path gives what the written-out one gives, on this machine."""

    run: tyro.conf.Positional[Path | None] = None
    """a run directory, such as runs/tiny; none: a small random model"""
    only: Repeated[tuple[str, ...]] = ()  # the name of a check; may be given again
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto takes a GPU where there is one."""
    json: bool = False  # a line of JSON for each check

    def __post_init__(self) -> None:
        names = [check.name for check in CHECKS]
        for name in self.only:
            require(name in names, f"--only {name} is no check; choose from {', '.join(names)}")


def verify(arguments: list[str]) -> int:
    """Runs the checks -> 0, or 1 where one has failed."""
    command = parse_flags(VerifyCommand, "verify", arguments)
    try:
        runtime = choose_runtime(TrainConfig(device=command.device))
    except ValueError as error:
        raise ValueError(str(error).replace("--train.", "--")) from None
    if command.run is None:
        subject = small_subject(runtime.device)
    else:
        subject = subject_of_run(command.run, runtime.device)
    checks = [check for check in CHECKS if not command.only or check.name in command.only]
    console = new_console()
    if not command.json:
        console.print(f"device    {runtime.describe().split(',')[0]}\nmodel     {subject.about}")
    rows = run_checks(checks, subject, Console(stderr=True) if command.json else console)
    if command.json:
        print("\n".join(json.dumps(asdict(row)) for row in rows))
    else:
        show(console, rows)
    return int(any(row.status == "FAIL" for row in rows))


def run_checks(checks: list[Check], subject: Subject, console: Console) -> list[Row]:
    """One after the other, with a bar."""
    rows = []
    with Bar(console, "verifying", len(checks)) as bar:
        for check in checks:
            bar.move(len(rows), check.path)
            rows.append(run_check(check, subject))
        bar.move(len(rows))
    return rows


def show(console: Console, rows: list[Row]) -> None:
    """A table on a terminal; elsewhere plain lines."""
    heading = ("", "path", "against", "difference", "bound", "why")
    lines = [cells(row) for row in rows]
    if console.is_terminal:
        table = Table(*heading)
        for line in lines:
            table.add_row(*line)
        console.print(table)
    else:
        widths = [max(map(len, column)) for column in zip(heading, *lines, strict=True)]
        for line in (heading, *lines):
            padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
            console.print("  ".join(padded).rstrip())
    console.print(summary(rows))


def cells(row: Row) -> tuple[str, ...]:
    numbers = ["" if x is None else f"{x:.2g}" for x in (row.difference, row.bound)]
    return (row.status, row.path, row.against, *numbers, row.why)


def summary(rows: list[Row]) -> str:
    """One line."""
    count = {status: sum(row.status == status for row in rows) for status in
             ("pass", "FAIL", "not here")}  # fmt: skip
    said = f"{count['pass']} paths equal the plain ones, {count['FAIL']} do not"
    if count["not here"]:
        said += f", {count['not here']} cannot be taken here"
    return said + "."
