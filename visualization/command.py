"""`python main.py inspect RUN --prompt TEXT | --story N`: look inside a model while it reads.

A further view takes two steps. Write a module with a frozen dataclass, whose fields are the names
in the data of the page, and a View (inspection.py) with the functions that build and print it:

    build(inspection) -> the dataclass, or None where the view does not apply to this run
    show(console, inspection, view)             what --view NAME prints
    summary(inspection, view)                   optional: its line where no --view is asked for
    ids(view)                                   optional: the token ids in it, which the page names

Then add one line to views.py; and one to pictures.py, where it has a picture.
Previous: views.py.  Next: weights.py.
"""

import os
from dataclasses import dataclass, replace

import torch
from rich.console import Console

from cfg_gpt2 import require
from commands.language import language_of
from commands.prompts import read_standard_input, utf8_text
from data.sources import TinyWorldSource
from data.tiny_world.stories import LANGUAGES, Story, corpus
from run_directory.config_file import read_config
from run_directory.files import write_whole
from run_directory.open_run import open_tokenizer
from tokenizer import Tokenizer
from training.progress import Bar, new_console
from visualization.capture import capture
from visualization.inspection import Inspection, Report, one_line
from visualization.page import as_json, data_of, html_of
from visualization.settings import InspectCommand
from visualization.views import VIEWS, load_view
from visualization.weights import load_weights

QUOTED = 60  # characters of the text in the summary
PARTS = 100  # of a view, which the progress bar counts


def inspect(command: InspectCommand) -> int:
    """Prints a summary or the views that were asked for, writes the file, and returns 0."""
    console = new_console()
    inspection = open_inspection(command)
    describe(console, inspection)
    shown = build_views(command, console, inspection)
    if command.writes:
        write(command, inspection, shown)
        console.print(f"{'file':12}{command.file}, {command.file.stat().st_size / 1e6:.2f} MB")
    return 0


def build_views(
    command: InspectCommand, console: Console, inspection: Inspection
) -> dict[str, object]:
    """Returns the views that were asked for, or all; prints each, or its line of the summary.

    Raises ValueError where one was asked for and does not apply.
    """
    shown: dict[str, object] = {}
    names = command.view or tuple(name for name in VIEWS if load_view(name).is_default)
    with Bar(console, "views", PARTS * len(names)) as bar:
        for number, name in enumerate(names):
            report = reporter(bar, PARTS * number, name)
            report(0, 1)
            view = load_view(name)
            built = view.build(replace(inspection, report=report))
            if built is None:
                asked = name in command.view
                require(not asked, f"--view {name} does not apply to {command.run} and this text")
                continue
            shown[name] = built
            if command.view:
                console.print(f"\n{name}")
                view.show(console, inspection, built)
            elif view.summary and (line := view.summary(inspection, built)):
                console.print(f"{name:12}{line}")
        bar.move(PARTS * len(names))
    return shown


def reporter(bar: Bar, before: int, name: str) -> Report:
    """Returns a function that moves a bar through the PARTS of one view."""
    return lambda done, total: bar.move(before + PARTS * done // total, name)


def open_inspection(command: InspectCommand) -> Inspection:
    """Opens the run, reads the text and runs the model on it.

    Raises FileNotFoundError or ValueError where the run, the text or a number does not fit.
    """
    config = read_config(command.run)
    model, step = load_weights(command.run, best=command.best, step=command.checkpoint)
    tokenizer = open_tokenizer(command.run, model)
    sizes = model.config
    text = choose_text(command, tokenizer)
    n_cut = max(0, len(text.tokens) - sizes.context_length)
    require(
        n_cut == 0 or text.story is not None,
        f"--prompt has {len(text.tokens)} tokens, the model reads {sizes.context_length} at most; "
        "give it a shorter text",
    )
    trace = capture(model, torch.tensor([text.tokens[: sizes.context_length]]))
    return Inspection(
        run=command.run,
        config=config,
        model=model,
        tokenizer=tokenizer,
        trace=trace,
        language=command.language or language_of(os.environ),
        story_number=text.number,
        story=text.story,
        n_cut=n_cut,
        step=step,
        position=choose_position(command, min(len(text.tokens), sizes.context_length)),
        layers=numbers_below(sizes.n_layer, command.layers, "--layers"),
        heads=numbers_below(sizes.n_head, command.heads, "--heads"),
        top=command.top,
        sampling=command.sampling,
        limit_bytes=command.limit_mb * 10**6 if command.file_format == "html" else None,
    )


@dataclass(frozen=True)
class Text:
    """The tokens to read, and the story that they tell, where it is one of a built-in world."""

    tokens: list[int]
    story: Story | None = None
    number: int | None = None


def choose_text(command: InspectCommand, tokenizer: Tokenizer) -> Text:
    """Returns the prompt, or the story: by its number, or 0 where nothing is named.

    A story stands between two end-of-text tokens, as in training, so its first word has bits.
    """
    if command.prompt is not None:
        prompt = read_standard_input() if command.prompt == "-" else command.prompt
        prompt = utf8_text(prompt, "--prompt")
        tokens = tokenizer.encode(prompt, allow_special=command.special_tokens)
        return Text(tokens or [tokenizer.end_of_text])
    number = command.story or 0
    story = validation_story(command, number)
    end = tokenizer.end_of_text
    return Text([end, *tokenizer.encode(story.text), end], story, number)


def validation_story(command: InspectCommand, number: int) -> Story:
    """Returns a story that the run was not trained on. Raises ValueError where there is none."""
    data = read_config(command.run).data
    name, *others = data.path
    require(
        name in LANGUAGES and not others,
        f"{command.run} was not trained on a built-in world, whose stories --story counts; "
        "give a text by --prompt",
    )
    n_stories = TinyWorldSource(name, data).n_validation
    require(
        number < n_stories,
        f"--story {number} is none of the {n_stories} validation stories of {command.run}; "
        f"at most {n_stories - 1}",
    )
    return corpus(LANGUAGES[name], 0, number + 1)[1][number]


def choose_position(command: InspectCommand, n_tokens: int) -> int:
    """Returns --position, or the last one. Raises ValueError where the text has no such token."""
    last = n_tokens - 1
    position = last if command.position is None else command.position
    require(
        position <= last,
        f"--position {position} is behind the text, whose {n_tokens} tokens are 0 to {last}",
    )
    return position


def numbers_below(limit: int, chosen: tuple[int, ...] | None, flag: str) -> tuple[int, ...]:
    """Returns the chosen numbers in ascending order, or all below a limit.

    Raises ValueError where one does not exist.
    """
    for number in chosen or ():
        require(
            0 <= number < limit,
            f"{flag} {number} does not exist: the model has {limit}, from 0 to {limit - 1}",
        )
    return tuple(range(limit)) if chosen is None else tuple(sorted(set(chosen)))


def describe(console: Console, inspection: Inspection) -> None:
    """Prints what is inspected: the run, its weights, and the beginning of the text."""
    sizes = inspection.model.config
    step = "" if inspection.step is None else f", weights of step {inspection.step}"
    console.print(
        f"{'run':12}{inspection.run}: {inspection.model.n_parameters():,} parameters, "
        f"{sizes.n_layer} layers of {sizes.n_head} heads{step}"
    )
    whole = one_line(inspection.tokenizer.decode(inspection.tokens))
    quoted = whole if len(whole) <= QUOTED else f"{whole[:QUOTED]} ..."
    left = f"; the last {inspection.n_cut} do not fit the context" if inspection.n_cut else ""
    number = inspection.story_number
    name = "" if number is None else f"story {number}, "
    console.print(f"{'text':12}{name}{len(inspection.tokens)} tokens{left}: {quoted}")


def write(command: InspectCommand, inspection: Inspection, shown: dict[str, object]) -> None:
    """Writes the page, the pictures or the numbers, whole or not at all."""
    if command.file_format in ("png", "svg"):
        from visualization.pictures import draw_views  # a second, where no picture is wanted

        draw_views(command.file, command.file_format, inspection, shown)
        return
    data = data_of(inspection, shown)
    text = html_of(data) if command.file_format == "html" else as_json(data) + "\n"
    size, limit = len(text.encode()), inspection.limit_bytes
    require(
        limit is None or size <= limit,
        f"the page would have {size / 1e6:.1f} MB, and --limit-mb is {command.limit_mb}; raise it, "
        "or choose --view, --layers or a shorter text",
    )
    write_whole(command.file, lambda part: part.write_text(text, encoding="utf-8"))
