"""`python main.py benchmark`: measures the roofline, then all candidates in interleaved rounds.

Previous: settings.py.  Next: candidates.py.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from rich.console import Console

from benchmarks.candidates import (
    decoding_jobs,
    finetuning_jobs,
    loading_jobs,
    scaling_jobs,
    tokenizing_jobs,
    training_jobs,
)
from benchmarks.interleaved import Measurement, WorkerFailed, measure, roofline_of
from benchmarks.job import Job, Target
from benchmarks.peers import read_peers
from benchmarks.report import (
    Table,
    failures,
    profile_lines,
    result_table,
    roofline_lines,
    scaling_table,
    show,
    write_page,
    write_profiles,
)
from benchmarks.result import Result, make_rows
from benchmarks.roofline import Roofline
from benchmarks.scaling import Series, series_of
from benchmarks.settings import (
    ComparedSettings,
    Decoding,
    Finetuning,
    Loading,
    ModelSettings,
    Scaling,
    TargetSettings,
    Tokenizing,
    Training,
)
from cfg_gpt2 import GPT2Config, TrainConfig, require
from commands.streams import INTERRUPTED, say
from data.tiny_world.stories import LANGUAGES, corpus
from run_directory.lock import first_free, only_writer
from run_directory.paths import require_file
from tokenizer import Tokenizer
from training.choose_runtime import choose_runtime, is_faster_in_bf16
from training.flops import matmul_weights, operations, parameters
from training.machine import describe_machine, shortened
from training.progress import Bar, new_console

RESULTS_FOLDER = Path("benchmarks", "results")  # in the working directory, as runs/ is
N_STORIES = 4_000  # of tiny-world, the text to tokenize without --text
BYTES_PER_WEIGHT = {"auto": 4, "fp32": 4, "bf16": 2, "int8": 1}  # in decoding
ALL_FAILED = 1  # the exit status where no candidate gave a figure


@dataclass(kw_only=True)
class Plan:
    """The jobs of a benchmark, and what the result says about them."""

    target: Target
    jobs: list[Job]
    notes: list[str] = field(default_factory=list)  # what was left out, and why
    model: GPT2Config | None = None
    description: str = ""  # of the model or the text
    unit: str = "tokens/s"


def benchmark(settings: TargetSettings) -> int:
    """Runs the benchmark of a target; returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        plan = make_plan(settings, Path(scratch))
        command = shortened(settings.command_line)
        try:
            with locked_folder(settings, plan.target) as folder:
                result = run(plan, settings, folder, Path(scratch), command)
        except KeyboardInterrupt:
            say("Stopped; nothing was written.")
            return INTERRUPTED
    return ALL_FAILED if all(row.rate is None for row in result.rows) else 0


@contextmanager
def locked_folder(settings: TargetSettings, target: str) -> Iterator[Path]:
    """Yields --out, or the first free one of benchmarks/results/DATE-TARGET, DATE-TARGET-2, ..."""
    show = new_console().print
    if settings.out:
        with only_writer(settings.out, "choose another --out", show):
            yield settings.out
        return
    name = f"{date.today().isoformat()}-{target}"
    names = (name if n == 1 else f"{name}-{n}" for n in range(1, 1_000_000))
    with first_free((RESULTS_FOLDER / name for name in names), show) as folder:
        yield folder


def make_plan(settings: TargetSettings, scratch: Path) -> Plan:
    """Returns the jobs for the flags of a target.

    Raises ValueError or FileNotFoundError for flags that do not fit.
    """
    device = choose_runtime(TrainConfig(device=settings.device), flags="--").device.type
    peers = read_peers(settings.peers) if isinstance(settings, ComparedSettings) else {}
    if isinstance(settings, Tokenizing):
        return plan_tokenizing(settings, scratch)
    if isinstance(settings, Loading):
        description = f"batches of {settings.batch_size} x {settings.context_length} tokens"
        return Plan(target="loading", jobs=loading_jobs(settings), description=description)
    if isinstance(settings, Scaling):
        model = settings.model()
        plan = Plan(target="scaling", jobs=scaling_jobs(settings), model=model)
    elif isinstance(settings, Decoding):
        jobs, notes = decoding_jobs(settings, peers)
        plan = Plan(target="decoding", jobs=jobs, notes=notes, model=settings.model())
    elif isinstance(settings, Finetuning):
        jobs, notes = finetuning_jobs(settings, peers, bf16=is_faster_in_bf16(device))
        plan = Plan(target="finetuning", jobs=jobs, notes=notes, model=settings.model())
    else:
        assert isinstance(settings, Training)
        jobs, notes = training_jobs(settings, peers, bf16=is_faster_in_bf16(device))
        plan = Plan(target="training", jobs=jobs, notes=notes, model=settings.model())
    assert plan.model
    plan.description = describe_model(plan.model, settings)
    return plan


def plan_tokenizing(settings: Tokenizing, scratch: Path) -> Plan:
    """Returns the jobs for tokenizing, after writing the text and the vocabulary into files."""
    peers = read_peers(settings.peers)
    if settings.text is None:
        stories = corpus(LANGUAGES["tiny-world"], N_STORIES, 1)[0]
        text = "\n".join(story.text for story in stories)
    else:
        text = read_text(settings.text)
    file = scratch / "text.txt"
    file.write_text(text, encoding="utf-8", newline="")
    if settings.vocabulary is None:
        tokenizer = Tokenizer.train(text.splitlines(keepends=True), settings.vocab_size)
    else:
        tokenizer = Tokenizer.from_gpt2(settings.vocabulary)
    tokenizer.save(scratch)
    jobs, notes = tokenizing_jobs(settings, peers, file, scratch)
    size = len(text.encode()) / 1e6
    description = f"{size:.3g} MB of text, {tokenizer.vocab_size:,} tokens in the vocabulary"
    return Plan(target="tokenizing", jobs=jobs, notes=notes, description=description, unit="MB/s")


def read_text(path: Path) -> str:
    """Reads a text file. Raises ValueError where it is empty or not UTF-8."""
    require_file(path, "name a UTF-8 text file", "--text")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"--text {path} is not UTF-8 at byte {error.start}") from None
    require(text.strip() != "", f"--text {path} is empty; give it some text")
    return text


def describe_model(model: GPT2Config, sizes: ModelSettings) -> str:
    """Returns the sizes, the parameters and the counted operations per token as one phrase."""
    cost = operations(model, model.context_length)
    work = f"batch {sizes.batch_size} x {model.context_length}"
    if isinstance(sizes, Decoding):
        work = f"{sizes.prompt_length} tokens of prompt, {sizes.new_tokens} to generate"
    return (
        f"{parameters(model):,} parameters: {model.n_layer} blocks, {model.n_head} heads, "
        f"{model.n_embd} wide, {model.vocab_size:,} tokens; {work}; "
        f"{cost.training / 1e6:,.4g} MFLOP per token in training, "
        f"{cost.forward / 1e6:,.4g} forward"
    )


def run(plan: Plan, settings: TargetSettings, folder: Path, scratch: Path, command: str) -> Result:
    """Measures all candidates, prints the result, writes it into a folder and returns it."""
    console = new_console()
    machine = describe_machine()
    for line in [*machine.lines(), f"model     {plan.description}", *plan.notes]:
        console.print(line)
    roofline = measure_roofline(plan, scratch, console)
    measurements = measure_all(plan, settings, scratch, console)
    unit = 1e6 if plan.unit == "MB/s" else 1.0
    result = Result(
        target=plan.target, unit=plan.unit, command=command, machine=machine,
        model=plan.description, roofline=roofline, notes=plan.notes, measurements=measurements,
        rows=make_rows(measurements, unit, attainable_rates(plan, roofline)),
    )  # fmt: skip
    for line in roofline_lines(result):
        console.print(line)
    report(console, folder, result)
    return result


def measure_roofline(plan: Plan, scratch: Path, console: Console) -> Roofline | None:
    """Measures the roofline for targets that have a model; the first job has the shapes."""
    if plan.model is None:
        return None
    console.print("measuring the limits of the machine ...")
    job = replace(plan.jobs[0], target="roofline", model=plan.model)
    try:
        return roofline_of(job, scratch)
    except WorkerFailed as failure:
        plan.notes.append(f"the limits could not be measured: {failure}")
        console.print(plan.notes[-1])
        return None


def measure_all(
    plan: Plan, settings: TargetSettings, scratch: Path, console: Console
) -> list[Measurement]:
    """Measures all jobs in interleaved rounds, but the points of `scaling` one after another."""
    is_interleaved = plan.target != "scaling"
    groups = [plan.jobs] if is_interleaved else [[job] for job in unique_jobs(plan.jobs)]
    n_requests = 1 + settings.rounds + settings.profile
    measurements: list[Measurement] = []
    with Bar(console, "measuring", n_requests * sum(map(len, groups))) as bar:
        progress = count_requests(bar)
        for jobs in groups:
            measurements += measure(
                jobs, settings.rounds, scratch, progress, profile=settings.profile
            )
    return measurements if is_interleaved else share_measurements(plan.jobs, measurements)


def count_requests(bar: Bar) -> Callable[[str], None]:
    """Returns a function that moves the bar by one at each call."""
    done = 0

    def progress(request: str) -> None:
        nonlocal done
        bar.move(done, request)
        done += 1

    return progress


def without_labels(job: Job) -> Job:
    """Returns a job without its place in the result, to find jobs with the same work."""
    return replace(job, name="", group="", x=0.0)


def unique_jobs(jobs: list[Job]) -> list[Job]:
    """Returns each kind of work once: the series of `scaling` share a point."""
    return list({without_labels(job): job for job in reversed(jobs)}.values())[::-1]


def share_measurements(jobs: list[Job], measurements: list[Measurement]) -> list[Measurement]:
    """Returns for each job the measurement of the same work."""
    by_work = {replace(without_labels(one.job), scratch=""): one for one in measurements}
    return [replace(by_work[without_labels(job)], job=job) for job in jobs]


def attainable_rates(plan: Plan, roofline: Roofline | None) -> dict[str, float]:
    """Returns operations per second by precision; for decoding, tokens per second by group."""
    if roofline is None or plan.model is None:
        return {}
    if plan.target != "decoding":
        best = {name: roofline.best(name) for name in ("fp32", "bf16")}
        return {name: rate for name, rate in best.items() if rate}
    bandwidth = roofline.best("memory") or 0.0
    # a decode step reads each weight once, whatever the batch
    weights = matmul_weights(plan.model)
    return {
        job.group: job.batch_size * bandwidth / (weights * BYTES_PER_WEIGHT[job.precision])
        for job in plan.jobs
    }


def report(console: Console, folder: Path, result: Result) -> None:
    """Prints the tables, and writes all files of the result."""
    from benchmarks.pictures import draw_bars, draw_scaling  # matplotlib takes 0.3 s

    tables: list[Table] = [result_table(result)]
    series: list[Series] = series_of(result.measurements) if result.target == "scaling" else []
    if series:
        tables.append(scaling_table(series))
        picture = draw_scaling(folder, series, result.model)
    else:
        picture = draw_bars(folder, result)
    for table in tables:
        console.print()
        show(console, table)
    for line in [*failures(result.measurements), *profile_lines(result.measurements)]:
        console.print(line)
    result.write(folder)
    write_page(folder, result, tables)
    write_profiles(folder, result.measurements)
    console.print(f"\nwritten to {folder}; the picture is {picture.name}")
