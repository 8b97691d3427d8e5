"""The pairs of answers that --data names: a built-in task's wrong answers, or files of pairs.

In a built-in task the rejected answer is one that a reader who did not follow the story could give.
Previous: preference.py.  Next: reward_settings.py.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from cfg_gpt2 import require
from data.token_files import Report
from finetuning.chat_format import Message
from finetuning.conversations import read_conversations, split
from finetuning.labelled_data import amounts, begin_with, names_task, require_task
from finetuning.pairs import EncodedPair, Pairs, PreferenceCorpus, fit_pair
from finetuning.preview import Counts, require_few_left_out
from finetuning.row_formats import Pair
from finetuning.tiny_questions.dialogues import Example, examples
from tokenizer import Tokenizer

N_TRAIN, N_VALIDATION = 5_000, 500  # pairs of a built-in task
SEED = 1  # of its stories: others than those of the dialogues


def open_pairs(
    data: tuple[str, ...],
    system: str | None,
    tokenizer: Tokenizer,
    context_length: int,
    report: Report,
    *,
    n_examples: int | None,
    leave_out_long: bool,
) -> tuple[PreferenceCorpus, list[str]]:
    """Returns pairs of answers as the trainer needs them, without the reference, and lines of text.

    Raises as read_pairs does, and ValueError for pairs of which many do not fit.
    """
    *parts, notes = read_pairs(data, system, report, n_examples)
    train, validation = (
        encode_pairs(part, tokenizer, context_length, report, leave_out_long=leave_out_long)
        for part in parts
    )
    notes.append(
        f"{len(train):,} pairs, {train.n_targets:,} tokens of answers, longest "
        f"{train.lengths.max():,}; {len(validation):,} more to be measured on"
    )
    if n_left_out := train.n_left_out + validation.n_left_out:
        notes.append(f"{n_left_out:,} left out: too long for the context")
    return PreferenceCorpus(tokenizer, train, validation), notes


def read_pairs(
    data: tuple[str, ...], system: str | None, report: Report, n_examples: int | None
) -> tuple[list[Pair], list[Pair], list[str]]:
    """Returns the pairs to learn from and those to be measured on, and lines of text.

    system begins every prompt that has no system message. Raises as read_conversations does, and
    ValueError for files of dialogues.
    """
    if names_task(data):
        n_train, n_validation = amounts(n_examples, N_TRAIN, N_VALIDATION)
        train = pairs_of_task(data[0], "train", n_train, report)
        validation = pairs_of_task(data[0], "validation", n_validation, report)
        notes = [f"right and wrong answers of {data[0]}"]
    else:
        require_task(data, n_examples)
        conversations = read_conversations(data)
        require(
            not conversations.dialogues,
            f"--data has {len(conversations.dialogues):,} dialogues, and --method dpo learns from "
            "pairs: give rows with a prompt, a chosen and a rejected answer",
        )
        train, validation = split(conversations.pairs)
        notes = conversations.notes
    if system:
        first = Message("system", system)
        train = [begin_pair_with(first, pair) for pair in train]
        validation = [begin_pair_with(first, pair) for pair in validation]
    return train, validation, notes


def pairs_of_task(task: str, split_name: str, n: int, report: Report) -> list[Pair]:
    """Returns the first n pairs of a split of a built-in task."""
    pairs = []
    with_wrong = (each for each in examples(task, split_name, SEED) if each.distractors)
    for number, example in enumerate(islice(with_wrong, n)):
        pairs.append(pair_of(example, number))
        if number % 100 == 0:
            report(number, n, f"{split_name} pairs")
    return pairs


def pair_of(example: Example, number: int) -> Pair:
    """Returns the right answer of an example beside one of its wrong ones, each in its turn."""
    *prompt, right = example.dialogue
    wrong = example.distractors[number % len(example.distractors)]
    return Pair(tuple(prompt), right, Message("assistant", wrong))


def begin_pair_with(system: Message, pair: Pair) -> Pair:
    """Returns a pair whose prompt has a system message, its own where it has one."""
    return replace(pair, prompt=begin_with(system, pair.prompt))


def encode_pairs(
    pairs: Sequence[Pair],
    tokenizer: Tokenizer,
    context_length: int,
    report: Report,
    *,
    leave_out_long: bool,
) -> Pairs:
    """Returns the pairs that fit.

    Raises ValueError where many do not fit, UnseenCharacter as encode_dialogue does.
    """
    counts, fitting = Counts(), list[EncodedPair]()
    for number, pair in enumerate(pairs):
        encoded = fit_pair(pair, tokenizer, context_length)
        counts.add((*pair.prompt, pair.chosen), encoded and encoded[0], tokenizer)
        if encoded:
            fitting.append(encoded)
        if number % 100 == 0:
            report(number, len(pairs), "tokens of pairs")
    require_few_left_out(counts, context_length, leave_out_long=leave_out_long, unit="pairs")
    return replace(Pairs.of(fitting, tokenizer), n_left_out=counts.n_left_out)
