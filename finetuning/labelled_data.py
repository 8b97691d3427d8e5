"""The labelled data that --data names: a built-in task, or files; apart what it is measured on.

Previous: dialogues.py.  Next: preview.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from cfg_gpt2 import require
from data.token_files import Report
from finetuning.chat_format import Dialogue, EncodedDialogue, Message
from finetuning.conversations import Conversations, read_conversations, split
from finetuning.dialogues import DialogueRows
from finetuning.preview import Counts, fit, require_few_left_out
from finetuning.tiny_questions import dialogues as tiny_questions
from tokenizer import Tokenizer

N_TRAIN, N_VALIDATION = 34_000, 1_000  # dialogues of a built-in task


@dataclass(frozen=True)
class Dialogues:
    """The dialogues to learn from and those to be measured on, and sentences for the screen."""

    train: Sequence[Dialogue]
    validation: Sequence[Dialogue]
    notes: list[str] = field(default_factory=list)


def open_dialogues(
    data: tuple[str, ...], system: str | None, report: Report, n_examples: int | None
) -> Dialogues:
    """Returns the dialogues of a built-in task or of files.

    n_examples is their number for training, of a built-in task; None: as many as it has. system
    begins every dialogue that has no system message. Raises as read_conversations does, and
    ValueError for files of pairs and for several built-in tasks.
    """
    if names_task(data):
        n_train, n_validation = amounts(n_examples, N_TRAIN, N_VALIDATION)
        train = told(data[0], "train", n_train, report)
        validation = told(data[0], "validation", n_validation, report)
        dialogues = Dialogues(train, validation, [f"{len(train):,} dialogues of {data[0]}"])
    else:
        require_task(data, n_examples)
        dialogues = of_files(read_conversations(data))
    if system is None:
        return dialogues
    first = Message("system", system)
    train, validation = (
        [begin_with(first, dialogue) for dialogue in part]
        for part in (dialogues.train, dialogues.validation)
    )
    return Dialogues(train, validation, dialogues.notes)


def names_task(data: tuple[str, ...]) -> bool:
    """Returns whether --data names a built-in task. Raises ValueError where it names more."""
    is_task = any(name in tiny_questions.TASKS for name in data)
    require(
        len(data) == 1 or not is_task,
        f"--data {' '.join(data)} mixes a built-in task with something else; name one of them",
    )
    return is_task


def amounts(asked: int | None, usual: int, usual_validation: int) -> tuple[int, int]:
    """Returns how much of a built-in task there is for training, and how much for validation."""
    n_train = usual if asked is None else asked
    return n_train, max(1, usual_validation * min(n_train, usual) // usual)


def require_task(data: tuple[str, ...], n_examples: int | None) -> None:
    """Raises ValueError where a number of examples is asked for, and --data names files."""
    require(
        n_examples is None,
        f"--examples {n_examples} is for a built-in task; leave it out, {' '.join(data)} is read "
        "whole",
    )


def told(task: str, split_name: str, n: int, report: Report) -> list[Dialogue]:
    """Returns the first n dialogues of a split of a built-in task."""
    dialogues = []
    for number, example in enumerate(islice(tiny_questions.examples(task, split_name), n)):
        dialogues.append(example.dialogue)
        if number % 100 == 0:
            report(number, n, f"{split_name} dialogues")
    return dialogues


def of_files(conversations: Conversations) -> Dialogues:
    """Returns the dialogues of files, split. Raises ValueError where they hold pairs."""
    require(
        not conversations.pairs,
        f"--data has {len(conversations.pairs):,} preference pairs, which are for --method dpo",
    )
    train, validation = split(conversations.dialogues)
    return Dialogues(train, validation, conversations.notes)


def begin_with(system: Message, dialogue: Dialogue) -> Dialogue:
    """Returns a dialogue with a system message, its own where it has one."""
    return dialogue if dialogue[0].role == "system" else (system, *dialogue)


def encode(
    dialogues: Sequence[Dialogue],
    tokenizer: Tokenizer,
    context_length: int,
    report: Report,
    *,
    leave_out_long: bool,
) -> tuple[DialogueRows, Counts]:
    """Returns the rows of the dialogues that fit, and how much of all of them is learned.

    Raises ValueError where many do not fit, UnseenCharacter as encode_dialogue does.
    """
    counts, rows = Counts(), list[EncodedDialogue]()
    for number, dialogue in enumerate(dialogues):
        encoded = fit(dialogue, tokenizer, context_length)
        counts.add(dialogue, encoded, tokenizer)
        if encoded:
            rows.append(encoded)
        if number % 100 == 0:
            report(number, len(dialogues), "tokens of dialogues")
    require_few_left_out(counts, context_length, leave_out_long=leave_out_long)
    return replace(DialogueRows.of(rows, tokenizer), n_left_out=counts.n_left_out), counts
