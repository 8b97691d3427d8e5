"""What the learner has done: one line of mine/progress.jsonl for each event.

    {"exercise": ..., "event": check | hint | show | train, "result": ..., "file": SHA-256,
     "before": SHA-256 of the line before}

"Done" is no event but a comparison: the file that passed is the file that is there.
Previous: report.py.  Next: assemble.py.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from run_directory.files import sha256, write_whole
from run_directory.json_file import parse_json

PROGRESS_FILE = "progress.jsonl"
State = Literal["not_begun", "begun", "done", "changed"]


@dataclass(frozen=True)
class Event:
    """One thing that the learner did."""

    exercise: str
    event: str
    result: str
    file: str  # the SHA-256 of the learner's file


def read_events(folder: Path) -> list[Event]:
    """Returns all events so far, of lines that are whole."""
    path = folder / PROGRESS_FILE
    if not path.is_file():
        return []
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found = parse_json(line.encode(), str(path))
        except ValueError:
            continue  # edited by hand: progress never stops learning
        names = ("exercise", "event", "result", "file")
        if isinstance(found, dict) and all(isinstance(found.get(name), str) for name in names):
            events.append(Event(*(found[name] for name in names)))
    return events


def is_whole(folder: Path) -> bool:
    """Tells whether each line carries the SHA-256 of the line before it, as it was written."""
    path = folder / PROGRESS_FILE
    if not path.is_file():
        return True
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        try:
            found = parse_json(line.encode(), str(path))
        except ValueError:
            return False
        if not isinstance(found, dict) or found.get("before") != digest_of(before):
            return False
    return True


def digest_of(line: str) -> str:
    """Returns the SHA-256 of a line, in hexadecimal."""
    return hashlib.sha256(line.encode()).hexdigest()


def record(folder: Path, exercise: str, event: str, result: str, file: Path) -> None:
    """Adds one event. Raises OSError where it cannot be written."""
    path = folder / PROGRESS_FILE
    before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    last = before.splitlines()[-1] if before.strip() else ""
    digest = sha256(file) if file.is_file() else ""
    line = json.dumps(
        {
            "exercise": exercise,
            "event": event,
            "result": result,
            "file": digest,
            "before": digest_of(last),
        }
    )
    text = before if not before or before.endswith("\n") else before + "\n"
    write_whole(path, lambda part: part.write_text(text + line + "\n", encoding="utf-8"))


def state_of(events: list[Event], exercise: str, file: Path) -> State:
    """Returns whether an exercise is done: whether the file that is there has passed."""
    if not file.is_file():
        return "not_begun"
    passed = [e.file for e in events if e.exercise == exercise and e.result == "passed"]
    if sha256(file) in passed:
        return "done"
    return "changed" if passed else "begun"


def count(events: list[Event], exercise: str, event: str) -> int:
    """Returns how often something was done in an exercise."""
    return sum(1 for e in events if (e.exercise, e.event) == (exercise, event))
