"""`python main.py learn`: the list, start, check, hint, look, show and train.

    exit status   0: all that was checked passes    1: something does not    2: unusable

Previous: hints.py.  Next: parts/gelu.py.
"""

import os
import sys

import torch

from cfg_gpt2 import require
from commands.language import Language, language_of
from exercises.catalogue import EXERCISES, load_exercise
from exercises.check import Verdict, check, text_of
from exercises.child import run_in_child
from exercises.exercise import Panel
from exercises.hints import rungs
from exercises.look import beside, draw_png, drawn
from exercises.progress import PROGRESS_FILE, count, is_whole, read_events, record, state_of
from exercises.report import TABLES, as_record, failure_text, lines_of
from exercises.settings import LearnCommand
from exercises.source import header_of, solution_of
from run_directory.files import write_whole
from run_directory.printable import json_line, main_command
from training.progress import CommandConsole, new_console


def learn(command: LearnCommand) -> int:
    """Does what the command's action says, and returns the exit status."""
    console = new_console()
    language = command.language or language_of(os.environ)
    return ACTIONS[command.action](command, console, language)


def in_folder(command: LearnCommand, *words: str) -> str:
    """Returns a command line of `learn` for the learner's own folder."""
    given = [] if command.folder == LearnCommand.folder else ["--folder", str(command.folder)]
    return main_command("learn", *words, *given)


def show_list(command: LearnCommand, console: CommandConsole, language: Language) -> int:
    """Prints every exercise and what is done, and the next command; returns 0."""
    labels, events = TABLES[language].LABELS, read_events(command.folder)
    rows, following = [], None
    for name in EXERCISES:
        exercise = load_exercise(name)
        state = state_of(events, name, command.folder / exercise.file)
        checks, hints = (count(events, name, event) for event in ("check", "hint"))
        shown = count(events, name, "show") > 0
        if following is None and state != "done":
            following = in_folder(command, "start" if state == "not_begun" else "check", name)
        if command.json:
            record_ = {"exercise": name, "state": state, "checks": checks, "hints": hints}
            print(json_line(record_ | {"shown": shown}, sys.stdout.encoding))
            continue
        tries = labels["tries"].format(checks=checks, hints=hints) if checks else ""
        tries += labels["shown"] if shown else ""
        rows.append(f"  {name:16}{exercise.title.of(language):44}{labels[state]:12}{tries}")
    if not command.json:
        console.print(labels["list"].format(folder=command.folder))
        console.print("\n".join(["", *(line.rstrip() for line in rows)]))
        if following:
            console.print(f"\n{labels['next']}: {following}")
        if not is_whole(command.folder):
            console.print(labels["edited"].format(path=command.folder / PROGRESS_FILE))
    return 0


def start(command: LearnCommand, console: CommandConsole, language: Language) -> int:
    """Writes the file to begin with, unless it is there; returns 0."""
    exercise = load_exercise(command.names[0])
    path = command.folder / exercise.file
    labels = TABLES[language].LABELS
    task = exercise.task.of(language).format(formula=exercise.formula)
    if path.exists():
        console.print(labels["kept"].format(path=path))
    else:
        text = f'"""{task}\n"""\n\n{exercise.stub}'
        write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
        console.print(f"{task}\n\n{labels['started'].format(path=path)}")
    console.print(f"  {in_folder(command, 'check', exercise.name)}")
    return 0


def check_all(command: LearnCommand, console: CommandConsole, language: Language) -> int:
    """Prints the verdict on each exercise that was named, or that has a file; returns 0 or 1."""
    names = command.names or tuple(
        name for name in EXERCISES if (command.folder / load_exercise(name).file).exists()
    )
    begin = in_folder(command, "start", next(iter(EXERCISES)))
    require(len(names) > 0, f"{command.folder} has no file of an exercise; begin with {begin}")
    all_pass = True
    for name in names:
        verdict = checked(command, name)
        all_pass &= verdict.passed
        if command.json:
            print(json_line(as_record(verdict, language), sys.stdout.encoding))
            continue
        for line in lines_of(verdict, language):
            console.print(line)
        console.print("\n".join(further(command, verdict, language)))
    return int(not all_pass)


def checked(command: LearnCommand, name: str) -> Verdict:
    """Returns the verdict on an exercise, and records it."""
    verdict = check(name, command.folder, command.seed)
    record(command.folder, name, "check", verdict.result, verdict.path)
    return verdict


def further(command: LearnCommand, verdict: Verdict, language: Language) -> list[str]:
    """Returns the commands that go on from a verdict."""
    labels, name, order = TABLES[language].LABELS, verdict.exercise.name, list(EXERCISES)
    if verdict.passed:
        after = order[order.index(name) + 1 :][:1]
        lines = [("train", "train", name), *(("next", "start", other) for other in after)]
    elif verdict.failure and verdict.failure.key in ("not_begun", "syntax", "no_class"):
        lines = []
    else:
        lines = [("more", "hint", name), *([("see", "look", name)] if verdict.difference else [])]
    return [f"  {labels[key]}: {in_folder(command, *words)}" for key, *words in lines]


def hint(command: LearnCommand, console: CommandConsole, language: Language) -> int:
    """Prints the next hint for what the file computes; returns 0."""
    name = command.names[0]
    labels = TABLES[language].LABELS
    verdict = check(name, command.folder, command.seed)
    if verdict.passed:
        for line in lines_of(verdict, language):
            console.print(line)
        return 0
    texts = rungs(verdict.exercise, verdict.mistakes, language)
    events = [e for e in read_events(command.folder) if e.exercise == name]
    given = sum(1 for e in events if (e.event, e.result) == ("hint", verdict.result))
    if given >= len(texts):
        console.print(labels["no_more"].format(command=in_folder(command, "show", name)))
        return 0
    record(command.folder, name, "hint", verdict.result, verdict.path)
    console.print(labels["hint"].format(rung=given + 1, count=len(texts)))
    console.print(f"  {texts[given]}")
    return 0


def show(command: LearnCommand, console: CommandConsole, language: Language) -> int:
    """Prints a solution, and records that it was seen; returns 0."""
    exercise = load_exercise(command.names[0])
    record(command.folder, exercise.name, "show", "", command.folder / exercise.file)
    root = f"{exercise.part.__module__}.py"
    console.print(TABLES[language].LABELS["solution"].format(root=root))
    console.print(f"\n{header_of(exercise)}{solution_of(exercise)}")
    return 0


def look(command: LearnCommand, console: CommandConsole, language: Language) -> int:
    """Draws what the learner's part looks at beside what the right one does; returns 0 or 1."""
    exercise = load_exercise(command.names[0])
    path, labels = command.folder / exercise.file, TABLES[language].LABELS
    text = text_of(path, exercise.name)
    ran = run_in_child(exercise.name, text, path, command.seed, looks=True)
    outcome = ran.failure or ran.cases[0]
    if not isinstance(outcome, dict):
        console.print(f"{exercise.name}   {failure_text(outcome, language)}")
        return 1
    pairs: list[tuple[Panel, torch.Tensor]] = []
    titles = labels["yours"], labels["right"]
    for n, panel in enumerate(exercise.look(exercise.oracle)):
        mine = outcome[str(n)]
        if mine.shape != panel.values.shape:
            got, expected = tuple(mine.shape), tuple(panel.values.shape)
            console.print(f"{panel.title.of(language)}: {got} / {expected}")
            return 1
        pairs.append((panel, mine))
        maps = beside(drawn(mine, panel.labels), drawn(panel.values, panel.labels), titles)
        console.print("\n".join([panel.title.of(language), *(f"  {line}" for line in maps), ""]))
    console.print(labels["lookup"])
    if command.png:
        draw_png(command.png, pairs, titles, language)
        console.print(labels["picture"].format(path=command.png))
    return 0


def train(command: LearnCommand, console: CommandConsole, language: Language) -> int:
    """Trains the real model with the learner's parts; returns the exit status."""
    from exercises.train import train_with_parts  # a second that no other action needs

    status = train_with_parts(command, console, language)
    for name in command.names:
        path = command.folder / load_exercise(name).file
        record(command.folder, name, "train", "passed" if status == 0 else "stopped", path)
    return status


ACTIONS = {
    "list": show_list,
    "start": start,
    "check": check_all,
    "hint": hint,
    "look": look,
    "show": show,
    "train": train,
}
