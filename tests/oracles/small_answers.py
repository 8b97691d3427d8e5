"""Small runs that learn from pairs of answers, and from rewards of answers of their own."""

from copy import deepcopy
from dataclasses import replace
from functools import cache
from io import StringIO
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file

from cfg_gpt2 import GPT2Config, RunConfig, TrainConfig
from commands.init_from import origin_of
from finetuning.chat_format import Message, encode_dialogue
from finetuning.command import publish_of
from finetuning.dialogues import DialogueCorpus, DialogueRows
from finetuning.drawn_answers import Sampler
from finetuning.exam import ExamItem
from finetuning.lora import add_lora
from finetuning.lora_settings import LoraConfig
from finetuning.pairs import Pairs, PreferenceCorpus, fit_pair, with_reference
from finetuning.preference import answer_log_probabilities, preference_loss
from finetuning.reinforce import QuestionCorpus, Questions, reward_loss, right_dialogue
from finetuning.reward_settings import RewardConfig
from finetuning.row_formats import Pair
from finetuning.settings import FinetuneCommand
from finetuning.supervised import supervised_loss
from gpt2 import GPT2Model
from oracles.small_run import FP32, TRAIN
from tokenizer import Tokenizer
from trainer import LossFunction, Trainer
from training.run_state import Publish, as_they_are
from training.runtime import Runtime
from training.training_data import TrainingData

THINGS = ("cat", "hat", "box", "fish", "lamp", "red ball")
CONTEXT_LENGTH = 72
REWARD = RewardConfig(answers=8, max_new_tokens=4)
REWARD_TRAIN = replace(
    TRAIN, batch_size=4, learning_rate=3e-3, final_learning_rate=3e-3, warmup_steps=0
)


def pair_of(number: int) -> Pair:
    """Returns a pair whose chosen answer names the thing, and whose rejected one does not."""
    thing, other = THINGS[number % 6], THINGS[(number // 6 + number + 1) % 6]
    prompt = (Message("user", f"I see a {thing}. What do I see, {number}?"),)
    return Pair(prompt, Message("assistant", f"a {thing}"), Message("assistant", f"the {other}"))


def item_of(number: int, answer: str = "yes") -> ExamItem:
    """Returns a question and the answer that is rewarded."""
    prompt = (Message("user", f"Is {number} good?"),)
    return ExamItem(prompt=prompt, answers=(answer,), kind="good")


@cache
def small_tokenizer() -> Tokenizer:
    """Returns a tokenizer that knows the words of the pairs and of the questions."""
    prompts = [pair_of(n).prompt[0].content for n in range(30)]
    prompts += [item_of(n).prompt[0].content for n in range(20)]
    texts = [f"<|user|>\n{prompt}\n<|assistant|>\na the yes no" for prompt in prompts]
    return Tokenizer.train(texts, vocab_size=300)


def pairs_of(numbers: range) -> Pairs:
    """Returns the pairs with some numbers."""
    fitting = [fit_pair(pair_of(n), small_tokenizer(), CONTEXT_LENGTH) for n in numbers]
    return Pairs.of([pair for pair in fitting if pair], small_tokenizer())


def small_model() -> GPT2Model:
    """Returns a model of two small blocks, always with the same random weights."""
    torch.manual_seed(3)
    return GPT2Model(
        GPT2Config(
            vocab_size=small_tokenizer().vocab_size,
            context_length=CONTEXT_LENGTH,
            n_layer=2,
            n_head=2,
            n_embd=16,
            dropout=0.0,
        )
    )


def trainer_of(
    model: GPT2Model,
    corpus: TrainingData,
    run_dir: Path,
    train: TrainConfig,
    loss_fn: LossFunction,
    runtime: Runtime,
    publish: Publish = as_they_are,
) -> Trainer:
    """Returns a trainer whose screen is a text."""
    config = RunConfig(model=model.config, train=train)
    console = Console(file=StringIO(), width=1000)
    return Trainer(model, corpus, config, run_dir, runtime, console, loss_fn, publish=publish)


def preference_trainer(
    run_dir: Path,
    train: TrainConfig = TRAIN,
    loss_fn: LossFunction = preference_loss,
    runtime: Runtime = FP32,
) -> Trainer:
    """Returns a trainer of 30 pairs, as `finetune --method dpo` makes it."""
    run_dir.mkdir(parents=True, exist_ok=True)
    model = small_model()
    corpus = PreferenceCorpus(small_tokenizer(), pairs_of(range(30)), pairs_of(range(30, 40)))
    console = Console(file=StringIO())
    corpus = with_reference(corpus, model, answer_log_probabilities, run_dir, runtime, console)
    return trainer_of(model, corpus, run_dir, train, loss_fn, runtime)


def dialogue_trainer(
    run_dir: Path,
    train: TrainConfig = TRAIN,
    lora: LoraConfig | None = None,
    runtime: Runtime = FP32,
) -> Trainer:
    """Returns a trainer of 40 dialogues, half of which answer yes and half no.

    It is as `finetune --method sft` makes it, or --method lora where its settings are given.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    dialogues = [right_dialogue(item_of(n, answer)) for n in range(20) for answer in ("yes", "no")]
    model, tokenizer, publish = small_model(), small_tokenizer(), as_they_are
    rows = DialogueRows.of((encode_dialogue(one, tokenizer) for one in dialogues), tokenizer)
    if lora:
        base = run_dir / "base"
        model.save(base)
        add_lora(model, lora, train.seed)
        command = FinetuneCommand(run=base, method="lora", lora=lora)
        publish = publish_of(command, run_dir, origin_of(base))
    corpus = DialogueCorpus(tokenizer, rows, rows)
    return trainer_of(model, corpus, run_dir, train, supervised_loss, runtime, publish)


def train_weak_model(folder: Path) -> None:
    """Trains a model that says yes or no at random, and ends by itself."""
    train = replace(TRAIN, max_steps=80, batch_size=8, eval_every=80)
    assert dialogue_trainer(folder, train).train()


def reward_trainer(
    weak: Path,
    run_dir: Path,
    train: TrainConfig = REWARD_TRAIN,
    loss_fn: LossFunction = reward_loss,
    runtime: Runtime = FP32,
) -> Trainer:
    """Returns a trainer that rewards a yes to every question, from the weak model on."""
    run_dir.mkdir(parents=True, exist_ok=True)
    model, tokenizer = small_model(), small_tokenizer()
    model.load_state_dict(load_file(weak / "model.safetensors"), strict=False)
    start = deepcopy(model)
    parts = [
        Questions.of(map(item_of, numbers), tokenizer, CONTEXT_LENGTH, REWARD.longest)
        for numbers in (range(20), range(20, 24))
    ]
    corpus = QuestionCorpus(tokenizer, *parts, REWARD, Sampler(model, start))
    return trainer_of(model, corpus, run_dir, train, loss_fn, runtime)
