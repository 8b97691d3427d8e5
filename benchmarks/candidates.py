"""The candidates of each target: a job for each row of the result, from flags and peers.

Previous: command.py.  Next: peers.py.
"""

from dataclasses import replace
from itertools import product
from pathlib import Path

from benchmarks.job import Job, Precision
from benchmarks.peers import Peers
from benchmarks.settings import (
    Decoding,
    Finetuning,
    Loading,
    ModelSettings,
    Scaling,
    TargetSettings,
    Tokenizing,
    Training,
)
from cfg_gpt2 import GPT2Config

NAMES = {
    "nanogpt": "nanoGPT", "book": "the book", "transformers": "Hugging Face",
    "ctranslate2": "CTranslate2", "llama_cpp": "llama.cpp",
}  # fmt: skip
DECODING_PRECISIONS = {  # the precisions of weights that a peer supports
    "nanogpt": ("fp32",), "book": ("fp32",), "transformers": ("fp32", "bf16"),
    "ctranslate2": ("fp32", "int8"), "llama_cpp": ("fp32", "bf16", "int8"),
}  # fmt: skip
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
NO_BF16 = "no bf16 rows of peers: this device has no instructions for bf16 matmuls"


def training_jobs(settings: Training, peers: Peers, *, bf16: bool) -> tuple[list[Job], list[str]]:
    """Returns the jobs, and a line for each comparison that is left out.

    The project runs with its defaults and in fp32; the peers run in fp32 and, where the device
    has instructions for it, in bf16.
    """
    base = with_sizes(settings, Job(target="training", name="ours", candidate="ours"))
    jobs, notes = [base], []
    if bf16:
        jobs.append(replace(base, name="ours fp32", precision="fp32"))
    else:
        notes.append("one row of the project: fp32 is its default on this device")
    for name, precision, compiled in (
        ("nanogpt", "fp32", True), ("nanogpt", "bf16", True), ("book", "fp32", False),
        ("transformers", "fp32", False), ("transformers", "bf16", True),
    ):  # fmt: skip
        if name in peers and (bf16 or precision == "fp32"):
            row = f"{NAMES[name]} {precision}{' compiled' * compiled}"
            jobs.append(
                replace(
                    base, name=row, candidate=name, precision=precision,
                    compiled=compiled, folder=peers[name],
                )
            )  # fmt: skip
    if not bf16 and {"nanogpt", "transformers"} & set(peers):
        notes.append(NO_BF16)
    return jobs, notes + left_out(peers, {"nanogpt", "book", "transformers"}, "training")


def finetuning_jobs(
    settings: Finetuning, peers: Peers, *, bf16: bool
) -> tuple[list[Job], list[str]]:
    """Returns the jobs of LoRA and of all weights, and a line for each peer left out.

    All run in bf16 where the device has instructions for it, else in fp32.
    """
    precision: Precision = "bf16" if bf16 else "fp32"
    base = Job(target="finetuning", name="ours LoRA", candidate="lora", precision=precision)
    base = with_sizes(settings, base)
    full = "all weights"
    rows = {
        "ours": ("ours", f"ours, {full}"),
        "peft": ("peft", "peft"),
        "transformers": ("transformers", f"Hugging Face, {full}"),
        "trl": ("trl", f"trl, {full}"),
        "trl_lora": ("trl", "trl with peft"),
    }
    jobs = [
        replace(base, name=row, candidate=name)
        for name, (peer, row) in rows.items()
        if peer in {"ours", *peers} and (name != "trl_lora" or "peft" in peers)
    ]
    return [base, *jobs], left_out(peers, set(rows), "finetuning")


def decoding_jobs(settings: Decoding, peers: Peers) -> tuple[list[Job], list[str]]:
    """Returns the jobs for one text and for a batch, in each precision of the weights.

    llama.cpp generates one text at a time. The second list has a line for each peer left out.
    """
    base = replace(
        with_sizes(settings, Job(target="decoding", name="ours", candidate="ours")),
        prompt_length=settings.prompt_length,
        new_tokens=settings.new_tokens,
        warmup=min(settings.warmup, 1),
    )
    jobs = []
    for batch_size, precision in product(sorted({1, settings.batch_size}), PRECISIONS):
        group = f"batch {batch_size} {precision}"
        base = replace(base, group=group, batch_size=batch_size, precision=precision)
        jobs.append(replace(base, name=f"ours, {group}"))
        for name, row in NAMES.items():
            if name in peers and precision in DECODING_PRECISIONS[name]:
                if name != "llama_cpp" or batch_size == 1:
                    peer = replace(base, candidate=name, folder=peers[name])
                    jobs.append(replace(peer, name=f"{row}, {group}"))
    return jobs, left_out(peers, set(NAMES), "decoding")


def tokenizing_jobs(
    settings: Tokenizing, peers: Peers, text: Path, vocabulary: Path
) -> tuple[list[Job], list[str]]:
    """Returns the jobs of the project, tiktoken and transformers with one vocabulary.

    The second list has a line for each peer left out.
    """
    base = replace(
        with_rounds(settings, Job(target="tokenizing", name="ours", candidate="ours")),
        text=str(text),
        vocabulary=str(vocabulary),
    )
    rows = {"tiktoken": "tiktoken", "transformers": "Hugging Face"}
    jobs = [replace(base, name=row, candidate=p) for p, row in rows.items() if p in peers]
    return [base, *jobs], left_out(peers, set(rows), "tokenizing")


def loading_jobs(settings: Loading) -> list[Job]:
    """Returns the jobs of the project and of the two methods that peers use."""
    base = replace(
        with_rounds(settings, Job(target="loading", name="ours", candidate="ours")),
        model=settings.model(),
        batch_size=settings.batch_size,
    )
    memmap = "memmap read at random offsets, as nanoGPT does"
    chunks = "torch DataLoader over chunks, as the book does"
    return [
        base,
        replace(base, name=memmap, candidate="memmap"),
        replace(base, name=chunks, candidate="dataloader"),
    ]


def scaling_jobs(settings: Scaling) -> list[Job]:
    """Returns the points of four series, in each of which one size grows."""
    base = with_sizes(settings, Job(target="scaling", name="", candidate="ours"))
    sizes, length, heads = base.model, settings.context_length, base.model.n_head
    batches, contexts = (
        around(settings.batch_size),
        sorted({max(1, length // 2), length, 2 * length, 4 * length}),
    )
    layers = around(sizes.n_layer)
    head_counts = sorted({max(1, heads * quarters // 4) for quarters in (1, 2, 3, 4)})
    points = [
        *(("batch", n, replace(base, batch_size=n)) for n in batches),
        *(("context", n, with_model(base, replace(sizes, context_length=n))) for n in contexts),
        *(("layers", n, with_model(base, replace(sizes, n_layer=n))) for n in layers),
        *(
            ("width", width, with_model(base, replace(sizes, n_embd=width, n_head=n)))
            for n in head_counts
            for width in [n * sizes.head_dim]
        ),
    ]
    return [replace(job, name=f"{series} {n}", group=series, x=n) for series, n, job in points]


def around(size: int) -> list[int]:
    """Returns a quarter, a half, one and two of a size: 8 -> 2, 4, 8, 16."""
    return sorted({max(1, size // 4), max(1, size // 2), size, 2 * size})


def with_model(job: Job, model: GPT2Config) -> Job:
    """Returns a job with another model."""
    return replace(job, model=model)


def with_sizes(settings: ModelSettings, job: Job) -> Job:
    """Returns a job with the sizes, rounds and device of the settings."""
    model = settings.model()
    return replace(with_rounds(settings, job), model=model, batch_size=settings.batch_size)


def with_rounds(settings: TargetSettings, job: Job) -> Job:
    """Returns a job with the steps, warm-up and device of the settings."""
    return replace(job, steps=settings.steps, warmup=settings.warmup, device=settings.device)


def left_out(peers: Peers, known: set[str], target: str) -> list[str]:
    """Returns a line for each peer that has no part in a target."""
    return [f"{name} takes no part in {target}" for name in peers if name not in known]
