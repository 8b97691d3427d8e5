"""Who takes part: the rows of each target, from the flags and the peers that are there."""

from dataclasses import replace
from itertools import product
from pathlib import Path

from benchmarks.job import Job, Precision
from benchmarks.peers import Peers
from benchmarks.settings import (
    Decoding,
    Loading,
    Measuring,
    Scaling,
    Sizes,
    Tokenizing,
    Training,
)
from cfg_gpt2 import GPT2Config

NAMES = {
    "nanogpt": "nanoGPT", "book": "the book", "transformers": "Hugging Face",
    "ctranslate2": "CTranslate2", "llama_cpp": "llama.cpp",
}  # fmt: skip
WRITES = {  # what a peer has, to write with
    "nanogpt": ("fp32",), "book": ("fp32",), "transformers": ("fp32", "bf16"),
    "ctranslate2": ("fp32", "int8"), "llama_cpp": ("fp32", "bf16", "int8"),
}  # fmt: skip
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
NO_BF16 = "no bf16 rows of peers: this device has no instructions for bf16 products"


def training(settings: Training, peers: Peers, *, bf16: bool) -> tuple[list[Job], list[str]]:
    """The project as it is and in fp32, the peers in fp32 and, where it pays, in bf16.

    -> the jobs, and what was left out and why.
    """
    base = sized(settings, Job(target="training", name="ours", contender="ours"))
    jobs, said = [base], []
    if bf16:
        jobs.append(replace(base, name="ours fp32", precision="fp32"))
    else:
        said.append("one row of the project: it computes in fp32 here by itself")
    for name, precision, compiled in (
        ("nanogpt", "fp32", True), ("nanogpt", "bf16", True), ("book", "fp32", False),
        ("transformers", "fp32", False), ("transformers", "bf16", True),
    ):  # fmt: skip
        if name in peers and (bf16 or precision == "fp32"):
            row = f"{NAMES[name]} {precision}{' compiled' * compiled}"
            jobs.append(
                replace(
                    base, name=row, contender=name, precision=precision,
                    compiled=compiled, folder=peers[name],
                )
            )  # fmt: skip
    if not bf16 and {"nanogpt", "transformers"} & set(peers):
        said.append(NO_BF16)
    return jobs, said + left_out(peers, {"nanogpt", "book", "transformers"}, "training")


def decoding(settings: Decoding, peers: Peers) -> tuple[list[Job], list[str]]:
    """In each precision of the weights everyone with one text, then with several.

    llama.cpp writes one text at a time.
    """
    base = replace(
        sized(settings, Job(target="decoding", name="ours", contender="ours")),
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
            if name in peers and precision in WRITES[name]:
                if name != "llama_cpp" or batch_size == 1:
                    peer = replace(base, contender=name, folder=peers[name])
                    jobs.append(replace(peer, name=f"{row}, {group}"))
    return jobs, left_out(peers, set(NAMES), "decoding")


def tokenizing(
    settings: Tokenizing, peers: Peers, text: Path, vocabulary: Path
) -> tuple[list[Job], list[str]]:
    """The project, tiktoken and transformers, with one vocabulary."""
    base = replace(
        measured(settings, Job(target="tokenizing", name="ours", contender="ours")),
        text=str(text),
        vocabulary=str(vocabulary),
    )
    rows = {"tiktoken": "tiktoken", "transformers": "Hugging Face"}
    jobs = [replace(base, name=row, contender=p) for p, row in rows.items() if p in peers]
    return [base, *jobs], left_out(peers, set(rows), "tokenizing")


def loading(settings: Loading) -> list[Job]:
    """The project and the two ways that peers load."""
    base = replace(
        measured(settings, Job(target="loading", name="ours", contender="ours")),
        model=settings.model(),
        batch_size=settings.batch_size,
    )
    memmap = "memmap read at random offsets, as nanoGPT does"
    chunks = "torch DataLoader over chunks, as the book does"
    return [
        base,
        replace(base, name=memmap, contender="memmap"),
        replace(base, name=chunks, contender="dataloader"),
    ]


def scaling(settings: Scaling) -> list[Job]:
    """Four series; in each one size grows and the others stay."""
    base = sized(settings, Job(target="scaling", name="", contender="ours"))
    sizes, length, heads = base.model, settings.context_length, base.model.n_head
    batches, contexts = around(settings.batch_size), sorted({max(1, length // 2), length,
                                                             2 * length, 4 * length})  # fmt: skip
    layers = around(sizes.n_layer)
    part_heads = sorted({max(1, heads * quarters // 4) for quarters in (1, 2, 3, 4)})
    points = [
        *(("batch", n, replace(base, batch_size=n)) for n in batches),
        *(("context", n, with_sizes(base, replace(sizes, context_length=n))) for n in contexts),
        *(("layers", n, with_sizes(base, replace(sizes, n_layer=n))) for n in layers),
        *(
            ("width", width, with_sizes(base, replace(sizes, n_embd=width, n_head=n)))
            for n in part_heads
            for width in [n * sizes.head_dim]
        ),
    ]
    return [replace(job, name=f"{series} {n}", group=series, x=n) for series, n, job in points]


def around(size: int) -> list[int]:
    """8 -> 2, 4, 8, 16."""
    return sorted({max(1, size // 4), max(1, size // 2), size, 2 * size})


def with_sizes(job: Job, model: GPT2Config) -> Job:
    return replace(job, model=model)


def sized(settings: Sizes, job: Job) -> Job:
    """With the sizes and the way of measuring."""
    model = settings.model()
    return replace(measured(settings, job), model=model, batch_size=settings.batch_size)


def measured(settings: Measuring, job: Job) -> Job:
    """With the way of measuring."""
    return replace(job, steps=settings.steps, warmup=settings.warmup, device=settings.device)


def left_out(peers: Peers, known: set[str], target: str) -> list[str]:
    """One line for each peer that has nothing to compare here."""
    return [f"{name} takes no part in {target}" for name in peers if name not in known]
