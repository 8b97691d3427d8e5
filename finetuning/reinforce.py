"""Learning from rewards: the model answers questions, and answers that are right become likelier.

    r    = what the answer earns, 0 to 1 (rewards.py)
    A    = r - mean of r over the answers to the same question
    loss = mean of 1 - r            its gradient: -(mean over answers of A grad log p(answer))

The answers are drawn by the weights of the step that learns from them, so there is no ratio of old
and new probabilities and nothing to clip. A is not divided by the standard deviation, which would
favour questions that are nearly always or nearly never answered. Where all answers to a question
earn the same, nothing can be learned, and they are left out.
                                  Williams 1992 (REINFORCE); Liu et al. 2025 (Dr. GRPO)
Previous: rewards.py.  Next: checked_questions.py.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cfg_gpt2 import require
from decoding.rows import RowState
from decoding.settings import SamplingConfig
from finetuning.chat_format import Dialogue, Message, encode_dialogue, encode_prompt
from finetuning.dialogues import BucketedOrder, DialogueRows, collate_rows
from finetuning.drawn_answers import DrawnAnswers, Sampler
from finetuning.exam import Answer, ExamItem
from finetuning.pairs import unlearned
from finetuning.preference import answer_log_probabilities
from finetuning.reward_settings import RewardConfig
from finetuning.rewards import REWARDS, StoryItem, kl_to_world, possible_stories
from gpt2 import GPT2Model
from loss import IGNORE_INDEX
from tokenizer import Tokenizer
from training.sums import TOKENS, Sums
from training.training_data import Batch, SampledWindows

WORRYING_SHARE = 0.95  # of answers that teach nothing
# The KL from the start weights, in bits per answer, where answers are drawn; of told stories also
# the share of possible ones, and in an evaluation the KL from the world's law, in bits per story.
MEASURES = ("kl", "possible", "kl_to_world")


def reward_loss(model: GPT2Model, batch: Batch) -> tuple[Tensor, Tensor, Sums]:
    """Returns the sum of the losses of answers, their number, and sums of what they earned.

    batch: rewards and advantages (n,), the first M of MEASURES (n, M), tokens and targets (n, T).
    The loss of an answer is 1 - r, in training too, where its gradient is that of the sum of
    -A log p, whose value says nothing.
    """
    rewards, advantages, measures, tokens, targets = batch
    counts = (targets != IGNORE_INDEX).any(1)
    loss, earned = ((1 - rewards) * counts).sum(), {"reward": (rewards * counts).sum()}
    for name, values in zip(MEASURES, measures.unbind(1), strict=False):
        earned[name] = values.where(counts, 0).sum()
    if not model.training:
        return loss, counts.sum(), earned
    teaches = counts & (advantages != 0)
    rows = teaches.nonzero().squeeze(1)
    if not len(rows):  # every process needs a gradient, be it of zeros
        rows = torch.zeros(1, dtype=torch.int64, device=tokens.device)
    log_p = answer_log_probabilities(model, tokens[rows], targets[rows])
    sums = earned | {
        "without_spread": (counts & ~teaches).sum(),
        TOKENS: (targets != IGNORE_INDEX).sum(),
    }
    surrogate = -(advantages[rows] * log_p).sum()
    return loss + surrogate - surrogate.detach(), counts.sum(), sums


def warn_of_equal_answers(metrics: Mapping[str, float]) -> str | None:
    """Returns a sentence where almost all answers to a question earn the same; else None."""
    share = metrics.get("without_spread", 0.0)
    if share < WORRYING_SHARE:
        return None
    advice = "take harder questions or a higher --reward.temperature"
    if metrics.get("reward", 1.0) < 0.5:
        advice = "take easier questions, or teach such answers by --method sft first"
    return (
        f"every answer to {share:.0%} of the questions earned the same, so almost nothing is "
        f"learned; {advice}"
    )


@dataclass(frozen=True)
class Questions:
    """Questions whose answers can be checked, as tokens."""

    items: list[ExamItem]
    prompts: list[list[int]]
    rows: DialogueRows  # each question with its right answer
    n_bytes: int = 0  # what is learned is no text, but what an answer earns
    n_left_out: int = 0  # questions that leave no room for their answer

    @classmethod
    def of(
        cls, items: Iterable[ExamItem], tokenizer: Tokenizer, context_length: int, n_new: int
    ) -> "Questions":
        """Returns the questions that leave room for an answer of n_new tokens.

        Raises ValueError where there is none, UnseenCharacter as encode_prompt does.
        """
        pairs = [(item, encode_prompt(item.prompt, tokenizer)) for item in items]
        fitting = [
            (item, prompt) for item, prompt in pairs if len(prompt) + n_new <= context_length
        ]
        room = context_length - min((len(prompt) for _, prompt in pairs), default=0)
        advice = "take a model with a longer one"
        if room > 0:
            advice = f"give --reward.max-new-tokens at most {room}"
        require(
            len(fitting) > 0,
            f"none of {len(pairs):,} questions leaves room for an answer of {n_new} tokens in a "
            f"context of {context_length}; {advice}",
        )
        right = (right_dialogue(item) for item, _ in fitting)
        rows = DialogueRows.of((encode_dialogue(one, tokenizer) for one in right), tokenizer)
        n_left_out = len(pairs) - len(fitting)
        items_left, prompts = [item for item, _ in fitting], [prompt for _, prompt in fitting]
        return cls(items_left, prompts, rows, n_left_out=n_left_out)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def n_targets(self) -> int:
        """The tokens of the right answers."""
        return self.rows.n_targets


def right_dialogue(item: ExamItem) -> Dialogue:
    """Returns a question with its right answer, the only message that is learned."""
    return (*unlearned(item.prompt), Message("assistant", item.answers[0]))


@dataclass(frozen=True)
class QuestionCorpus:
    """Questions as the trainer needs them; see training/training_data.py.

    In an evaluation each question is answered once: by the most likely tokens, so that val_reward
    is the share of right answers; or, where a story is asked for, by drawn ones, as in training.
    """

    tokenizer: Tokenizer
    train: Questions
    validation: Questions
    config: RewardConfig
    sampler: Sampler | None = None  # is there once there is a model
    floor_bits_per_byte: float | None = None

    def windows(self, context_length: int, seed: int) -> "QuestionWindows":
        """Returns the training questions in the order in which they are asked."""
        order = BucketedOrder(self.train.rows.lengths, seed)
        return QuestionWindows(self, order, context_length, seed)

    def evaluation_batches(self, context_length: int, batch_size: int) -> Iterator[Batch]:
        """Yields one batch, of an answer to each validation question; some are drawn at a time."""
        part = self.validation
        order = np.argsort(part.rows.lengths, kind="stable").tolist()
        items = [part.items[number] for number in order]
        temperature = self.config.temperature if isinstance(items[0], StoryItem) else 0
        states = [RowState(prompt=part.prompts[number], seed=number) for number in order]
        drawn = [
            self.draw(states[first : first + batch_size], temperature)
            for first in range(0, len(states), batch_size)
        ]
        answers = [answer for each in drawn for answer in each.answers]
        rows = [row for each in drawn for row in each.rows]
        log_p, kl = (torch.cat(t) for t in zip(*((d.log_p, d.kl) for d in drawn), strict=True))
        world = kl_to_world(answers, items, log_p)
        measures = torch.stack([kl, *possible_stories(answers, items), *world], dim=1)
        batch = collate_rows(rows, context_length, self.tokenizer.end_of_text)
        yield self.rewards_of(answers, items), torch.ones(len(items)), measures, *batch

    def draw(self, rows: list[RowState], temperature: float) -> DrawnAnswers:
        """Extends prompts by answers of the weights as they are, and returns these."""
        assert self.sampler is not None
        config = SamplingConfig(
            temperature=temperature,
            max_new_tokens=self.config.longest,
            stop_tokens=(self.tokenizer.end_of_text,),
        )
        return self.sampler.draw(rows, config, self.tokenizer)

    def rewards_of(self, answers: Sequence[Answer], items: Sequence[ExamItem]) -> Tensor:
        """Returns what the answers earn, (n,)."""
        reward, pairs = REWARDS[self.config.function], zip(answers, items, strict=True)
        return torch.tensor([reward(answer, item, self.config) for answer, item in pairs])

    def sha256(self) -> str:
        """Returns a hash of all questions and their right answers, and of how they are asked."""
        digest = hashlib.sha256(repr(self.config).encode())
        for part in (self.train, self.validation):
            for item in part.items:
                digest.update(repr((item.prompt, item.answers)).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class QuestionWindows(SampledWindows):
    """The training questions, each with several answers. A position is the number of a question.

    The random draws depend on the seed and the position alone, so a resumed run draws the same.
    """

    corpus: QuestionCorpus
    order: BucketedOrder
    context_length: int
    seed: int

    def batch(self, first: int, count: int, step: int = 1) -> Batch:
        """Returns what reward_loss needs of several answers to each of `count` questions."""
        corpus, n_answers = self.corpus, self.corpus.config.answers
        places = [place for place in range(first, first + count * step, step)
                  for _ in range(n_answers)]  # fmt: skip
        numbers = [self.order[place] for place in places]
        states = [
            RowState(prompt=corpus.train.prompts[number], seed=self.row_seed(place, i % n_answers))
            for i, (place, number) in enumerate(zip(places, numbers, strict=True))
        ]
        items = [corpus.train.items[number] for number in numbers]
        drawn = corpus.draw(states, corpus.config.temperature)
        rewards = corpus.rewards_of(drawn.answers, items)
        of_questions = rewards.view(-1, n_answers)
        advantages = (of_questions - of_questions.mean(1, keepdim=True)).flatten()
        measures = torch.stack([drawn.kl, *possible_stories(drawn.answers, items)], dim=1)
        batch = collate_rows(drawn.rows, self.context_length, corpus.tokenizer.end_of_text)
        return rewards, advantages, measures, *batch

    def row_seed(self, place: int, answer: int) -> int:
        """Returns the seed of an answer to the question at a place."""
        sequence = np.random.SeedSequence((self.seed % 2**64, place, answer))
        return int(sequence.generate_state(1, np.uint64)[0]) % 2**63

    def epochs(self, n_windows: int) -> list[float]:
        """Returns how often the first n_windows go through the questions."""
        return [n_windows / len(self.corpus.train)]
