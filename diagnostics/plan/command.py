"""`python main.py plan`: what a training run needs, before it starts.

Nothing is trained: sizes are counted; what cannot be counted is assumed, and listed as assumed.
Previous: estimate.py.
"""

import json
from dataclasses import replace

import torch

from diagnostics.plan.estimate import RESERVED, TOKENS_PER_PARAMETER, Plan
from diagnostics.plan.settings import PlanCommand
from diagnostics.plan.speed import BYTES_PER_TOKEN, GIGA
from diagnostics.plan.text_size import TextSize, measure_text
from training.flops import parameters
from training.progress import new_console, show_table


def plan(command: PlanCommand) -> int:
    """Prints the plan of a run, and returns 0.

    Raises ValueError where the run does not fit.
    """
    result = make_plan(command)
    record = to_json(result)  # before anything is printed: it raises where nothing fits
    if result.command.json:
        print(json.dumps(record))
        return 0
    console = new_console()
    show_table(console, ("", ""), table(result))
    console.print("\n" + summary(result))
    for line in assumptions(result):
        console.print(f"  {line}")
    return 0


def make_plan(command: PlanCommand) -> Plan:
    """Returns the plan of the run that `train` would make of the same flags.

    With --data flags the text is looked at, and its vocabulary is the model's, as in training.
    """
    if not command.reads_text:
        return Plan(command)
    text = measure_text(command.data)
    return Plan(replace(command, model=replace(command.model, vocab_size=text.vocab_size)), text)


def to_json(plan: Plan) -> dict[str, object]:
    """Returns the figures for --json, in bytes, tokens and seconds."""
    memory = plan.memory_at_peak
    return {
        "parameters": parameters(plan.command.model),
        "operations_per_token": plan.operations,
        "device": plan.device_description,
        "n_gpus": plan.n_ranks,
        "strategy": plan.strategy,
        "precision": "bf16" if plan.bf16 else "fp32",
        "compiled": plan.compiled,
        "micro_batch": plan.micro_batch,
        "largest_micro_batch": plan.largest_micro_batch,
        "memory": {name: n_bytes for name, n_bytes in memory.parts.items() if n_bytes},
        "peak_memory": memory.peak,
        "peak_moment": memory.peak_phase,
        "memory_there": round(plan.memory_bytes),
        "tokens_per_second": plan.tokens_per_second,
        "tokens_per_second_of_one": plan.speed,
        "tokens": plan.tokens,
        "steps": plan.n_steps,
        "epochs": plan.epochs,
        "optimal_tokens": plan.optimal_tokens,
        "days": plan.days,
        "token_file_bytes": plan.token_file_bytes,
        "text_bytes": plan.text_bytes,
        "checkpoint_bytes": plan.checkpoint_bytes,
        "snapshot_bytes": plan.snapshot_bytes,
        "assumptions": assumptions(plan),
    }


def table(plan: Plan) -> list[tuple[str, str]]:
    """Returns the rows of the printed table, a name and a value each."""
    memory, sizes, train = plan.memory_at_peak, plan.command.model, plan.command.train
    precision = "bf16 matmuls" if plan.bf16 else "fp32"
    blocks = "compiled blocks" if plan.compiled else "eager blocks"
    rows = [
        ("model", f"{parameters(sizes):,} parameters"),
        ("operations", f"{plan.operations:,.0f} per token in training"),
        ("device", f"{plan.device_description}; {plan.strategy}, {precision}, {blocks}"),
        (
            "step",
            f"{train.batch_size} windows of {sizes.context_length} tokens, {plan.micro_batch} at "
            f"a time in each process; at most {plan.largest_micro_batch} of "
            f"{plan.windows_per_rank} fit",
        ),
        *((f"  {name}", gigabytes(n)) for name, n in memory.parts.items() if n),
        (
            "memory",
            f"{gigabytes(memory.peak)} at the peak, phase: {memory.peak_phase}; "
            f"present: {gigabytes(plan.memory_bytes)}",
        ),
        ("tokens", tokens_in_words(plan)),
        ("steps", f"{plan.n_steps:,} of {plan.tokens_per_step:,} tokens"),
    ]
    if plan.tokens_per_second and plan.days:
        rows.append(("speed", f"{plan.tokens_per_second:,.0f} tokens/s{guess(plan)}"))
        rows.append(("time", duration(plan.days)))
    disk = (
        f"{gigabytes(plan.token_file_bytes)} of tokens, from some {gigabytes(plan.text_bytes)} of "
        f"text; {gigabytes(plan.checkpoint_bytes)} per checkpoint with model.safetensors"
    )
    if plan.snapshot_bytes:
        disk += f"; {gigabytes(plan.snapshot_bytes)} of snapshots"
    return [*rows, ("disk", disk)]


def tokens_in_words(plan: Plan) -> str:
    """Returns how many tokens the run reads, beside the text's and the compute-optimal number."""
    words = f"{plan.tokens:,.0f}"
    if plan.text and plan.epochs:
        about = "" if plan.text.sample_bytes is None else "some "
        words += f": {plan.epochs:.1f} times through a text of {about}{plan.text.n_tokens:,.0f}"
    return (
        f"{words}; compute-optimal: {plan.optimal_tokens:,} by the rule of "
        f"{TOKENS_PER_PARAMETER} per parameter"
    )


def guess(plan: Plan) -> str:
    """Returns a word of warning where the speed was not measured, and else nothing."""
    return "" if plan.command.tokens_per_second else ", a guess"


def summary(plan: Plan) -> str:
    """Returns a sentence: whether the run fits, and how long it takes."""
    peak = gigabytes(plan.memory_at_peak.peak)
    fits = f"It fits: {peak} of {gigabytes(plan.memory_bytes)}"
    if not plan.memory_bytes:
        fits = f"It needs {peak}; this system does not say how much memory it has"
    if plan.days is None:
        return (
            f"{fits}. How long it takes is unknown here: measure with python main.py benchmark "
            "training, then give --tokens-per-second."
        )
    took = f"{fits}, and {in_millions(plan.tokens)} tokens take {duration(plan.days)}"
    return f"{took}{guess(plan)}."


def assumptions(plan: Plan) -> list[str]:
    """Returns a line for each figure that was assumed, not counted."""
    command, gpu, lines = plan.command, plan.gpu, []
    if command.gpus and not command.gpu and gpu and not torch.cuda.is_available():
        lines.append("--gpu h100 is assumed; there is no GPU here")
    if gpu:
        lines.append(
            f"{gpu.name}: {gpu.memory:g} GB, {gpu.bf16:g} TFLOP/s in bf16, {gpu.fp32:g} in fp32 "
            f"({gpu.source})"
        )
    if gpu and not command.tokens_per_second:
        lines.append(
            f"that a step reaches {command.utilization:g} of that rate (--utilization) is a guess, "
            "from nanoGPT with 124M on A100; measure with python main.py benchmark training and "
            "give --tokens-per-second"
        )
    if plan.n_ranks > 1:
        lines.append(
            f"each step sends {plan.traffic.bytes_per_step / GIGA:.2f} GB over links of "
            f"{plan.link:g} GB/s, which overlap with at most half of the computing; all GPUs are "
            "equally fast"
        )
    if plan.device == "cpu":
        lines.append(
            "tensors are counted; freed memory that malloc keeps adds a fifth to a half to them"
        )
    lines.append(f"{RESERVED:.0%} of the memory stays free for libraries and gaps")
    lines.append(
        f"{TOKENS_PER_PARAMETER} tokens per parameter is a rule of thumb (Hoffmann et al. 2022)"
    )
    lines.extend(text_assumptions(plan.text, command.data.tokenizer))
    return lines


def text_assumptions(text: TextSize | None, tokenizer: str) -> list[str]:
    """Returns lines about the vocabulary and the bytes of a token; none for tokens of shards."""
    if text is None:
        return [f"a token stands for {BYTES_PER_TOKEN} bytes of English text"]
    if text.sample_bytes is None:
        return []
    lines = [
        f"a token stands for {text.n_bytes / text.n_tokens:.2f} bytes, as in the first "
        f"{gigabytes(text.sample_bytes)} of the text"
    ]
    if tokenizer == "bpe":
        lines.append(
            f"the vocabulary of {text.vocab_size:,} tokens is learned from the text, as in "
            "training; --data.vocab-size or --data.tokenizer give another"
        )
    return lines


def in_millions(n_tokens: float) -> str:
    """2_490_000_000 -> 2.49 billion."""
    if n_tokens >= 1e9:
        return f"{n_tokens / 1e9:,.2f} billion"
    return f"{n_tokens / 1e6:,.2f} million"


def gigabytes(n_bytes: float) -> str:
    """2_500_000_000 -> 2.50 GB."""
    return f"{n_bytes / GIGA:,.2f} GB" if n_bytes >= 1e7 else f"{n_bytes / 1e6:,.2f} MB"


def duration(days: float) -> str:
    """Returns a duration in the largest unit of which it has at least two."""
    for unit, size in (("days", 1.0), ("hours", 1 / 24), ("minutes", 1 / 1440)):
        if days >= 2 * size:
            return f"{days / size:,.1f} {unit}"
    return f"{days * 86400:,.0f} seconds"
