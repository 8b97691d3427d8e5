"""The methods of `finetune`: what each learns from, by which loss, and what it advises.

    sft, lora   dialogues                            the next-token loss of the answers
    dpo         pairs of answers, and a reference    DPO or IPO
    reward      questions, and a sampler             the policy gradient

Previous: settings.py.  Next: command.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from cfg_gpt2 import InitFrom
from commands.init_from import initial_model, require_unchanged
from data.token_files import Report
from finetuning.chat_format import Dialogue
from finetuning.checked_questions import open_questions, read_items
from finetuning.dialogues import DialogueCorpus
from finetuning.drawn_answers import Sampler
from finetuning.labelled_data import open_dialogues
from finetuning.labelled_pairs import open_pairs, read_pairs
from finetuning.pairs import PreferenceCorpus, unlearned, with_reference
from finetuning.preference import answer_log_probabilities, preference_loss, warn_of_fall
from finetuning.reinforce import (
    QuestionCorpus,
    reward_loss,
    right_dialogue,
    warn_of_equal_answers,
)
from finetuning.settings import FinetuneCommand
from finetuning.supervised import supervised_loss
from gpt2 import GPT2Model
from tokenizer import Tokenizer
from training.progress import Metrics
from training.run_state import Publish
from training.runtime import LossFunction, Runtime

LabelledCorpus = DialogueCorpus | PreferenceCorpus | QuestionCorpus
Advise = Callable[[Metrics], str | None]


def open_answers(
    command: FinetuneCommand, tokenizer: Tokenizer, context_length: int, report: Report
) -> tuple[LabelledCorpus, list[str]]:
    """Returns the pairs or the questions of --data, by the method, and lines of text.

    Raises as open_pairs and open_questions do.
    """
    data, system = command.data, command.system
    if command.method == "reward":
        return open_questions(
            data, system, command.reward, tokenizer, context_length, report, command.examples
        )
    return open_pairs(
        data,
        system,
        tokenizer,
        context_length,
        report,
        n_examples=command.examples,
        leave_out_long=command.leave_out_long,
    )


def dialogues_to_show(
    command: FinetuneCommand, report: Report
) -> tuple[Sequence[Dialogue], list[str]]:
    """Returns the dialogues that a method learns from, and lines of text.

    Of a pair they are two, the chosen and the rejected one; of a question, that with the right
    answer. Raises as the functions do that read them.
    """
    data, system = command.data, command.system
    if command.method == "reward":
        items, _ = read_items(data, system, command.reward, report, command.examples)
        return [right_dialogue(item) for item in items], []
    if command.method == "dpo":
        pairs, _, notes = read_pairs(data, system, report, command.examples)
        answers = [
            (pair.prompt, answer) for pair in pairs for answer in (pair.chosen, pair.rejected)
        ]
        return [(*unlearned(prompt), answer) for prompt, answer in answers], notes
    dialogues = open_dialogues(data, system, report, command.examples)
    return dialogues.train, dialogues.notes


def with_model(
    corpus: LabelledCorpus,
    model: GPT2Model,
    publish: Publish,
    origin: InitFrom,
    run_dir: Path,
    runtime: Runtime,
    console: Console,
) -> LabelledCorpus:
    """Returns the data with what a model gives: the reference of pairs, a sampler of answers.

    Raises as with_reference does, and as require_unchanged where the weights that the model began
    with are not there.
    """
    if isinstance(corpus, PreferenceCorpus):
        return with_reference(corpus, model, answer_log_probabilities, run_dir, runtime, console)
    if isinstance(corpus, QuestionCorpus):
        runtime.on_rank_zero(partial(require_unchanged, origin))
        start = initial_model(model.config, origin.run)
        return replace(corpus, sampler=Sampler(model, start, publish))
    return corpus


def loss_of(command: FinetuneCommand) -> LossFunction:
    """Returns the loss that a method learns by."""
    if command.method == "dpo":
        return partial(preference_loss, config=command.preference)
    return reward_loss if command.method == "reward" else supervised_loss


def advice_of(command: FinetuneCommand) -> Advise:
    """Returns what makes a sentence of the metrics of an evaluation, where one is due."""
    advices: dict[str, Advise] = {"dpo": warn_of_fall, "reward": warn_of_equal_answers}
    return advices.get(command.method, lambda metrics: None)
