"""`python main.py benchmark`: limits first, then the project and its peers in turn."""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from rich.console import Console

from benchmarks import lineup, settings
from benchmarks.growth import Series, series_of
from benchmarks.job import Job, Target
from benchmarks.limits import Limits
from benchmarks.peers import read_peers
from benchmarks.pictures import draw_bars, draw_growth
from benchmarks.report import (
    Cells,
    cells,
    deaths,
    growth_cells,
    limit_lines,
    share_lines,
    show,
    write_page,
    write_profiles,
)
from benchmarks.result import Result, rows_of
from benchmarks.turns import Measured, WorkerDied, limits_of, measure
from cfg_gpt2 import GPT2Config, TrainConfig, require
from commands.flags import parse_flags
from data.tiny_world.stories import LANGUAGES, corpus
from tokenizer import Tokenizer
from training.choose_runtime import choose_runtime, is_faster_in_bf16
from training.flops import operations, parameters, weights_in_products
from training.machine import describe_machine, shortened
from training.progress import Bar, new_console

RESULTS = Path(__file__).with_name("results")
STORIES = 4_000  # of the tiny world that are tokenized where --text is not given
BYTES_PER_WEIGHT = {"auto": 4, "fp32": 4, "bf16": 2, "int8": 1}  # in decoding
INTERRUPTED = 130  # the exit status that shells give to Ctrl-C
TARGETS = {
    "training": (settings.Training, "a whole training step, against every peer"),
    "decoding": (settings.Decoding, "writing text with the cache of keys and values"),
    "tokenizing": (settings.Tokenizing, "text to token ids"),
    "loading": (settings.Loading, "token files to batches"),
    "scaling": (settings.Scaling, "the project's cost as batch, context, layers, width grow"),
}


@dataclass(kw_only=True)
class Plan:
    """What is going to be measured, and against what."""

    target: Target
    jobs: list[Job]
    said: list[str] = field(default_factory=list)
    model: GPT2Config | None = None
    about: str = ""  # the model or the text, in words
    unit: str = "tokens/s"


def benchmark(arguments: list[str]) -> int:
    """Runs a target -> the exit status."""
    if arguments[:1] in (["--help"], ["-h"]) or not arguments:
        print(overview())
        return 0 if arguments else 2
    name, *flags = arguments
    known = ", ".join(TARGETS)
    require(name in TARGETS, f"benchmark {name} is unknown; choose one of {known}")
    chosen = parse_flags(TARGETS[name][0], f"benchmark {name}", flags)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        plan = make_plan(chosen, Path(scratch))
        folder = chosen.out or new_folder(plan.target)
        command = shortened(" ".join(["python main.py benchmark", *arguments]))
        try:
            run(plan, chosen, folder, Path(scratch), command)
        except KeyboardInterrupt:
            print("Stopped; nothing was written.", file=sys.stderr)
            return INTERRUPTED
    return 0


def overview() -> str:
    """One line a target."""
    lines = [f"  python main.py benchmark {name:10} {TARGETS[name][1]}" for name in TARGETS]
    return "\n".join(
        [
            "How fast is it, beside other GPT-2s on this machine? It first measures what the",
            "machine can do at most, then everyone in turn, and writes a table and a picture.",
            "",
            *lines,
            "",
            "python main.py benchmark TARGET --help lists the target's settings.",
            "Quick: python main.py benchmark training --preset tiny --rounds 3 --steps 5",
        ]
    )


def make_plan(chosen: settings.Measuring, scratch: Path) -> Plan:
    """Flags -> jobs. Raises ValueError or FileNotFoundError for what does not fit."""
    device = choose_runtime(TrainConfig(device=chosen.device), flags="--").device.type
    peers = read_peers(chosen.peers) if isinstance(chosen, settings.Compared) else {}
    if isinstance(chosen, settings.Tokenizing):
        return plan_tokenizing(chosen, scratch)
    if isinstance(chosen, settings.Loading):
        about = f"batches of {chosen.batch_size} x {chosen.context_length} tokens"
        return Plan(target="loading", jobs=lineup.loading(chosen), about=about)
    if isinstance(chosen, settings.Scaling):
        model = chosen.model()
        plan = Plan(target="scaling", jobs=lineup.scaling(chosen), model=model)
    elif isinstance(chosen, settings.Decoding):
        jobs, said = lineup.decoding(chosen, peers)
        plan = Plan(target="decoding", jobs=jobs, said=said, model=chosen.model())
    else:
        assert isinstance(chosen, settings.Training)
        jobs, said = lineup.training(chosen, peers, bf16=is_faster_in_bf16(device))
        plan = Plan(target="training", jobs=jobs, said=said, model=chosen.model())
    assert plan.model
    plan.about = describe_model(plan.model, chosen)
    return plan


def plan_tokenizing(chosen: settings.Tokenizing, scratch: Path) -> Plan:
    """The text and the vocabulary lie in files before anyone is timed."""
    peers = read_peers(chosen.peers)
    if chosen.text is None:
        stories = corpus(LANGUAGES["tiny-world"], STORIES, 1)[0]
        text = "\n".join(story.text for story in stories)
    else:
        text = read_text(chosen.text)
    file = scratch / "text.txt"
    file.write_text(text, encoding="utf-8", newline="")
    if chosen.vocabulary is None:
        tokenizer = Tokenizer.train(text.splitlines(keepends=True), chosen.vocab_size)
    else:
        tokenizer = Tokenizer.from_gpt2(chosen.vocabulary)
    tokenizer.save(scratch)
    jobs, said = lineup.tokenizing(chosen, peers, file, scratch)
    size = len(text.encode()) / 1e6
    about = f"{size:.3g} MB of text, {tokenizer.vocab_size:,} tokens in the vocabulary"
    return Plan(target="tokenizing", jobs=jobs, said=said, about=about, unit="MB/s")


def read_text(path: Path) -> str:
    """The whole of a file. Raises ValueError where it is empty or no UTF-8."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"--text {path} is not UTF-8 at byte {error.start}") from None
    require(text.strip() != "", f"--text {path} is empty; give it some text")
    return text


def describe_model(model: GPT2Config, sizes: settings.Sizes) -> str:
    """Sizes, parameters, and what a token costs on paper."""
    cost = operations(model, model.context_length)
    work = f"batch {sizes.batch_size} x {model.context_length}"
    if isinstance(sizes, settings.Decoding):
        work = f"{sizes.prompt_length} tokens to go on from, {sizes.new_tokens} to write"
    return (
        f"{parameters(model):,} parameters: {model.n_layer} blocks, {model.n_head} heads, "
        f"{model.n_embd} wide, {model.vocab_size:,} tokens; {work}; "
        f"{cost.training / 1e6:,.4g} MFLOP a token in training, "
        f"{cost.forward / 1e6:,.4g} forward"
    )


def run(plan: Plan, chosen: settings.Measuring, folder: Path, scratch: Path, command: str) -> None:
    """Measures, shows and writes."""
    console = new_console()
    machine = describe_machine()
    for line in [*machine.lines(), f"model     {plan.about}", *plan.said]:
        console.print(line)
    limits = measured_limits(plan, scratch, console)
    measured = measure_all(plan, chosen, scratch, console)
    unit = 1e6 if plan.unit == "MB/s" else 1.0
    result = Result(
        target=plan.target, unit=plan.unit, command=command, machine=machine, model=plan.about,
        limits=limits, said=plan.said, measured=measured,
        rows=rows_of(measured, unit, limit_rates(plan, limits)),
    )  # fmt: skip
    for line in limit_lines(result):
        console.print(line)
    report(console, folder, result)


def measured_limits(plan: Plan, scratch: Path, console: Console) -> Limits | None:
    """For targets that a limit is known of; the first job has the shapes."""
    if plan.model is None:
        return None
    console.print("measuring what the machine can do at most ...")
    job = replace(plan.jobs[0], target="limits", model=plan.model)
    try:
        return limits_of(job, scratch)
    except WorkerDied as death:
        plan.said.append(f"the limits could not be measured: {death}")
        console.print(plan.said[-1])
        return None


def measure_all(
    plan: Plan, chosen: settings.Measuring, scratch: Path, console: Console
) -> list[Measured]:
    """Everyone in turn; the points of `scaling`, which are not compared, one after the other."""
    in_turn = plan.target != "scaling"
    groups = [plan.jobs] if in_turn else [[job] for job in distinct(plan.jobs)]
    each = 1 + chosen.rounds + chosen.profile
    measured: list[Measured] = []
    with Bar(console, "measuring", each * sum(map(len, groups))) as bar:
        progress = counted(bar)
        for jobs in groups:
            measured += measure(jobs, chosen.rounds, scratch, progress, profile=chosen.profile)
    return measured if in_turn else shared(plan.jobs, measured)


def counted(bar: Bar) -> Callable[[str], None]:
    """Each call is one more thing that begins."""
    done = 0

    def progress(said: str) -> None:
        nonlocal done
        bar.move(done, said)
        done += 1

    return progress


def same(job: Job) -> Job:
    """What is measured, without where it is shown."""
    return replace(job, name="", group="", x=0.0)


def distinct(jobs: list[Job]) -> list[Job]:
    """The series meet in one point; it is measured once."""
    return list({same(job): job for job in reversed(jobs)}.values())[::-1]


def shared(jobs: list[Job], measured: list[Measured]) -> list[Measured]:
    """Every job with the measurement that is about the same sizes."""
    found = {replace(same(seen.job), scratch=""): seen for seen in measured}
    return [replace(found[same(job)], job=job) for job in jobs]


def limit_rates(plan: Plan, limits: Limits | None) -> dict[str, float]:
    """Operations a second by precision; for decoding, tokens a second by batch."""
    if limits is None or plan.model is None:
        return {}
    if plan.target != "decoding":
        best = {name: limits.best(name) for name in ("fp32", "bf16")}
        return {name: rate for name, rate in best.items() if rate}
    bandwidth = limits.best("memory") or 0.0
    # a step reads each weight once, whatever the batch
    weights = weights_in_products(plan.model)
    return {
        job.group: job.batch_size * bandwidth / (weights * BYTES_PER_WEIGHT[job.precision])
        for job in plan.jobs
    }


def report(console: Console, folder: Path, result: Result) -> None:
    """Table, picture and files."""
    folder.mkdir(parents=True, exist_ok=True)
    tables: list[Cells] = [cells(result)]
    series: list[Series] = series_of(result.measured) if result.target == "scaling" else []
    if series:
        tables.append(growth_cells(series))
        picture = draw_growth(folder, series, result.model)
    else:
        picture = draw_bars(folder, result)
    for table in tables:
        console.print()
        show(console, table)
    for line in [*deaths(result.measured), *share_lines(result.measured)]:
        console.print(line)
    result.write(folder)
    write_page(folder, result, tables)
    write_profiles(folder, result.measured)
    console.print(f"\nwritten to {folder}; the picture is {picture.name}")


def new_folder(target: str) -> Path:
    """benchmarks/results/DATE-TARGET, or the first free one with a number."""
    name = f"{date.today().isoformat()}-{target}"
    numbers = (RESULTS / (name if n == 1 else f"{name}-{n}") for n in range(1, 1_000_000))
    return next(path for path in numbers if not path.exists())
