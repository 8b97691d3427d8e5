"""The learner's code in a process of its own, with a limit of time and of memory.

    parent   reads the file, forks, waits for one message a case, judges
    child    imports the text, runs the cases, sends tensors as safetensors bytes

So an endless loop, sys.exit, a crash of the interpreter or a list without end costs the learner
one sentence, and no code of his runs where the judgement is made. It is no sandbox.
Previous: allowed.py.  Next: compare.py.
"""

import faulthandler
import json
import multiprocessing
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType, TracebackType

import torch
from safetensors.torch import load, save
from torch import Tensor

from exercises.allowed import Forbidden, Watch
from exercises.catalogue import load_exercise
from exercises.exercise import Case, Exercise, Outputs, Part
from exercises.run_part import WrongContract, run_case
from exercises.source import module_of

SECONDS = 10.0  # for one case
START_SECONDS = 120.0  # for the imports of a child that is not forked
MEMORY = 4 << 30  # bytes that the child may take beside what it begins with
MOST_PRINTED = 2000  # characters of what the learner's code prints
LEARNERS_FILE = "learners_part"  # the name of the module


@dataclass(frozen=True)
class Failure:
    """Why a file or a case gave no numbers: `key` names the text, with its values."""

    key: str
    values: dict[str, str] = field(default_factory=dict)


@dataclass
class Ran:
    """What came out of the learner's file: outputs or a failure for each case, and its prints."""

    cases: list[Outputs | Failure] = field(default_factory=list)
    failure: Failure | None = None  # of the whole file
    printed: str = ""


def run_in_child(
    name: str, text: str, path: Path, seed: int, seconds: float = SECONDS, *, looks: bool = False
) -> Ran:
    """Runs all cases of an exercise on the text of the learner's file, in a child process.

    looks: instead of the cases its maps are made, the outputs "0", "1", ... of a single case.
    """
    method = "fork" if sys.platform == "linux" else "spawn"
    context = multiprocessing.get_context(method)
    here, there = context.Pipe(duplex=False)
    ran = Ran()
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder, "printed.txt")
        arguments = (there, name, text, str(path), seed, str(printed), looks)
        child = context.Process(target=work, args=arguments, daemon=True)
        child.start()
        there.close()
        try:
            receive(here, ran, 1 if looks else len(all_cases(name, seed)), seconds)
        except EOFError:
            child.join(seconds)
            ran.failure = ended(child.exitcode)
        finally:
            child.kill()
            child.join()
            here.close()
        with suppress(OSError):
            ran.printed = printed.read_text(encoding="utf-8", errors="replace")[:MOST_PRINTED]
    return ran


def receive(here: Connection, ran: Ran, n_cases: int, seconds: float) -> None:
    """Reads the messages of a child until all cases are there. Raises EOFError where it ended."""
    allowed = START_SECONDS
    while len(ran.cases) < n_cases and ran.failure is None:
        if not here.poll(allowed):
            ran.failure = Failure("endless", {"seconds": f"{seconds:g}"})
            return
        message = here.recv_bytes()
        head, _, tensors = message.partition(b"\n")
        said = json.loads(head)
        if said["what"] == "outputs":
            ran.cases.append(load(tensors))
        elif said["what"] == "case":
            ran.cases.append(Failure(said["key"], said["values"]))
        elif said["what"] == "file":
            ran.failure = Failure(said["key"], said["values"])
        allowed = seconds


def ended(status: int | None) -> Failure:
    """Returns the failure of a child that has ended by itself, with its exit status."""
    if status is not None and status < 0:
        return Failure("killed", {"signal": str(-status)})
    return Failure("exited", {"status": str(status)})


def work(
    there: Connection, name: str, text: str, path: str, seed: int, printed: str, looks: bool
) -> None:
    """The child: imports the learner's text and sends what each case gives."""
    faulthandler.disable()  # where a test has turned it on
    redirect(printed)
    limit_memory()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # what torch says of the code would stand among its prints
    exercise = load_exercise(name)
    cases = [None] if looks else all_cases(name, seed)
    send(there, "ready")
    try:
        part = getattr(module_of(text, path, LEARNERS_FILE), exercise.part.__name__, None)
    except BaseException as error:  # noqa: BLE001  of the learner's code, which may raise anything
        send(there, "file", failure_of(error, path))
        return
    if not isinstance(part, type):
        send(there, "file", Failure("no_class", {"name": exercise.part.__name__}))
        return
    for case in cases:
        try:
            with Watch(exercise.forbidden):
                outputs = run_case(part, case) if case else maps_of(exercise, part)
        except BaseException as error:  # noqa: BLE001
            send(there, "case", failure_of(error, path))
        else:
            send(there, "outputs", tensors=outputs)


def all_cases(name: str, seed: int) -> list[Case]:
    """Returns the cases of an exercise, and those of its probes behind them."""
    exercise = load_exercise(name)
    return [*exercise.cases(seed), *(probe.case for probe in exercise.probes(seed))]


def maps_of(exercise: Exercise, part: Part) -> Outputs:
    """Returns the maps of a part by their numbers."""
    return {str(n): panel.values for n, panel in enumerate(exercise.look(part))}


def send(
    there: Connection, what: str, failure: Failure | None = None, tensors: Outputs | None = None
) -> None:
    """Sends one message: a line of JSON and, with outputs, their safetensors bytes."""
    said: dict[str, object] = {"what": what}
    if failure:
        said |= {"key": failure.key, "values": failure.values}
    plain = {name: tensor.detach().clone().contiguous() for name, tensor in (tensors or {}).items()}
    there.send_bytes(json.dumps(said).encode() + b"\n" + (save(plain) if plain else b""))


def redirect(printed: str) -> None:
    """Sends everything that this process prints into a file, and gives it nothing to read."""
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, opened in ((0, null), (1, file), (2, file)):
        os.dup2(opened, number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  the streams of the whole process
    sys.stdout = sys.stderr = open(  # noqa: SIM115
        1, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False
    )


def limit_memory() -> None:
    """Limits what this process may take, where the operating system can."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def failure_of(error: BaseException, path: str) -> Failure:
    """Returns what the learner is told of an exception: his own line, and the shapes on it."""
    if isinstance(error, WrongContract):
        return Failure(error.key, error.values)
    if isinstance(error, SyntaxError) and error.filename == path:
        return Failure("syntax", {"line": str(error.lineno), "message": str(error.msg)})
    frame, line = place_of(error.__traceback__, path)
    values = {
        "line": str(line),
        "message": " ".join(str(error).split())[:300],
        "type": type(error).__name__,
        "shapes": shapes_on(frame, path, line) if frame else "",
    }
    keys: list[tuple[type[BaseException], str]] = [
        (NotImplementedError, "not_begun"),
        (Forbidden, "forbidden_call"),
        (SystemExit, "exit_called"),
        (MemoryError, "memory"),
    ]
    if "can't allocate memory" in str(error) or "not enough memory" in str(error):
        return Failure("memory", values)
    return Failure(next((key for kind, key in keys if isinstance(error, kind)), "crash"), values)


def place_of(trace: TracebackType | None, path: str) -> tuple[FrameType | None, int]:
    """Returns the innermost frame of the learner's own file, and the line in it."""
    found = None, 0
    for frame, line in traceback.walk_tb(trace):
        if frame.f_code.co_filename == path:
            found = frame, line
    return found


def shapes_on(frame: FrameType, path: str, line: int) -> str:
    """Returns the shapes of the tensors that a line of the learner's file names."""
    lines = frame.f_globals["__loader__"].text.splitlines()
    source = lines[line - 1] if 0 < line <= len(lines) else ""
    names = [n for n in frame.f_code.co_varnames if n in words_of(source)]
    tensors = {name: frame.f_locals[name] for name in names if name in frame.f_locals}
    shown = [f"{n} {tuple(t.shape)}" for n, t in tensors.items() if isinstance(t, Tensor)]
    return ", ".join(shown)


def words_of(source: str) -> Sequence[str]:
    """Returns the names in a line of Python."""
    return "".join(c if c.isalnum() or c == "_" else " " for c in source).split()
