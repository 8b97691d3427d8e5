"""`python main.py verify [RUN]`: compares every fast path with the formula it stands for.

    pass        |fast - reference| <= bound, for the largest difference there is
    FAIL        the difference is larger, or the path raised an error or did not run;
                the exit status is 1
    skipped     this machine or this model has no such path; the row states the reason

Previous: settings.py.  Next: rounding.py.
"""

import json
from dataclasses import asdict

from rich.console import Console

from cfg_gpt2 import TrainConfig, require
from diagnostics.verify.check import Check, Row, run_check
from diagnostics.verify.checks import (
    attention,
    backends,
    cache,
    export,
    generation,
    kernels,
    native,
    preparation,
    quantization,
    training,
)
from diagnostics.verify.model_under_test import ModelUnderTest, model_of_run, small_model
from diagnostics.verify.settings import VerifyCommand
from training.choose_runtime import choose_runtime
from training.progress import Bar, new_console, show_table

CHECKS = [
    Check("fused", "fused attention", "the formula", attention.fused),
    Check("fused-cache", "fused attention, cached", "formula, cached", attention.fused_with_cache),
    Check("fused-backward", "fused attention, gradients", "formula", attention.fused_gradients),
    Check("cached", "decoding with a KV cache", "whole text, no cache", cache.incremental),
    Check("reused", "cache cleared and truncated", "no cache", cache.reused),
    Check("unequal", "texts of unequal length", "each text alone", cache.ragged),
    Check("shared", "shared prefix", "each text alone", cache.shared_prefix),
    Check("long", "text past the context", "its window alone", cache.past_the_context),
    Check("streamed", "streamed tokens", "all at the end", generation.streamed),
    Check("streamed-text", "streamed text", "decoded at the end", generation.streamed_text),
    Check("speculative", "speculative decoding", "greedy decoding", generation.speculative),
    Check("beams", "beam search, cached", "each text alone", generation.beams),
    Check("head", "fused linear cross-entropy", "all logits, then loss", kernels.cross_entropy),
    Check("gelu", "GELU kernel, gradients", "the formula", kernels.gelu),
    Check("layer-norm", "LayerNorm kernel, gradients", "the formula", kernels.layer_norm),
    Check("chunked-linear", "chunked matmuls, gradients", "whole ones", kernels.chunked_linear),
    Check("short-attention", "bf16 attention, short", "the formula", kernels.short_attention),
    Check("tiled-attention", "bf16 attention, tiles", "the formula", kernels.tiled_attention),
    Check("padded", "padded windows", "each window alone", training.padded_windows),
    Check("adamw", "fused AdamW", "the formula", training.adamw),
    Check("muon", "Muon on stacked matrices", "each matrix alone", training.muon),
    Check("resumed", "resumed training", "uninterrupted", training.resumed),
    Check("compiled", "compiled blocks", "eager blocks", backends.compiled),
    Check("bf16", "bf16 matmuls", "fp32", backends.bf16),
    Check("bf16-backward", "bf16 matmuls, gradients", "fp32", backends.bf16_gradients),
    Check("bf16-fused", "fused attention in bf16", "the formula in bf16", backends.bf16_fused),
    Check("device", "this device", "the CPU", backends.other_device),
    Check("int8", "int8 weights", "fp32 weights", quantization.int8_weights),
    Check("int8-kernel", "int8 kernel, few rows", "dequantized", quantization.int8_kernel),
    Check("native", "native step", "whole text, no cache", native.fp32_step),
    Check("native-bf16", "native step, bf16 weights", "the same in fp32", native.bf16_step),
    Check("native-int8", "native step, int8 weights", "dequantized", native.int8_step),
    Check("word-cache", "word cache of prepare", "the tokenizer", preparation.word_cache),
    Check("exported", "exported, in transformers", "the run itself", export.exported_model),
    Check("spelled", "exported tokenizer", "the run's own", export.exported_tokenizer),
]

# The check of each kernel in training/kernels and of each engine of `generate`.
CHECK_OF = {
    "linear_cross_entropy": "head",
    "GELUKernel": "gelu",
    "LayerNormKernel": "layer-norm",
    "ChunkedLinear": "chunked-linear",
    "ShortAttention": "short-attention",
    "TiledAttention": "tiled-attention",
    "int8": "int8-kernel",
    "native": "native",
}


def verify(command: VerifyCommand) -> int:
    """Runs the checks, prints their rows, and returns 0, or 1 where one has failed."""
    names = [check.name for check in CHECKS]
    for name in command.only:
        require(name in names, f"--only {name} is no check; choose from {', '.join(names)}")
    runtime = choose_runtime(TrainConfig(device=command.device), flags="--")
    if command.run is None:
        under_test = small_model(runtime.device)
    else:
        under_test = model_of_run(command.run, runtime.device)
    checks = [check for check in CHECKS if not command.only or check.name in command.only]
    console = new_console()
    if not command.json:
        device = runtime.describe().split(",")[0]
        console.print(f"device    {device}\nmodel     {under_test.description}")
    rows = run_checks(checks, under_test, new_console(stderr=True) if command.json else console)
    if command.json:
        print("\n".join(json.dumps(asdict(row)) for row in rows))
    else:
        heading = ("", "fast path", "reference", "difference", "bound", "reason")
        show_table(console, heading, [cells(row) for row in rows])
        console.print(summary(rows))
    return int(any(row.status == "FAIL" for row in rows))


def run_checks(checks: list[Check], under_test: ModelUnderTest, console: Console) -> list[Row]:
    """Runs one check after the other, with a progress bar, and returns their rows."""
    rows = []
    with Bar(console, "verifying", len(checks)) as bar:
        for check in checks:
            bar.move(len(rows), check.path)
            rows.append(run_check(check, under_test))
        bar.move(len(rows))
    return rows


def cells(row: Row) -> tuple[str, ...]:
    """Returns the cells of a row of the printed table."""
    numbers = ["" if x is None else f"{x:.2g}" for x in (row.difference, row.bound)]
    return (row.status, row.path, row.against, *numbers, row.why)


def summary(rows: list[Row]) -> str:
    """Returns a sentence that counts the rows by their status."""
    n_pass, n_fail, n_skipped = (
        sum(row.status == status for row in rows) for status in ("pass", "FAIL", "skipped")
    )
    sentence = f"{n_pass} fast paths equal their references, {n_fail} do not"
    if n_skipped:
        sentence += f", {n_skipped} are skipped"
    return sentence + "."
