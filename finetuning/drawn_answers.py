"""Answers that a model draws: their texts, their tokens, and how far the model has come for them.

    KL(p | p_start) = mean over answers of the sum over tokens of r - 1 - log r
                                           r = p_start(token) / p(token)   Schulman 2020, k3

This estimate is never negative, and right on average where the answers are drawn from p, at
temperature 1. p_start are the weights that finetuning begins with. A mean over the tokens of each
answer would be wrong, for its length depends on what was drawn.
Previous: reward_settings.py.  Next: rewards.py.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from decoding.engine import generate_rows
from decoding.rows import RowState
from decoding.settings import SamplingConfig
from finetuning.dialogues import Row, collate_rows
from finetuning.exam import Answer
from finetuning.preference import target_log_probabilities
from gpt2 import GPT2Model
from run_directory.weights import assign_weights, on_meta_device
from tokenizer import Tokenizer
from training.kernels import choose_kernels, use_kernels
from training.run_state import Publish, as_they_are
from training.training_data import Batch


@dataclass(frozen=True)
class DrawnAnswers:
    """Some answers of a model, with their log-probabilities."""

    answers: list[Answer]
    rows: list[Row]  # prompts and answers, of which the answers are learned
    log_p: Tensor  # (n,) of each answer and its end, in nats
    kl: Tensor  # (n,) estimates of the KL from the start weights, in bits per answer


@dataclass(frozen=True)
class Sampler:
    """The model as it would be published, to draw answers from.

    Its weights are those of the trained model, in the same memory, or made of them by `publish`.
    """

    model: GPT2Model
    start: GPT2Model  # with the weights that finetuning begins with
    publish: Publish = as_they_are

    @cached_property
    def sampled(self) -> GPT2Model:
        """A model without weights of its own."""
        with on_meta_device():
            model = GPT2Model(self.model.config).eval()
        use_kernels(model, choose_kernels(self.model.device, self.model.dtype))
        return model

    def draw(
        self, rows: list[RowState], config: SamplingConfig, tokenizer: Tokenizer
    ) -> DrawnAnswers:
        """Extends the rows by the weights as they are, and returns their answers."""
        parameters = {name: p.detach() for name, p in self.model.named_parameters()}
        assign_weights(self.sampled, self.publish(parameters))
        for _ in generate_rows(self.sampled, rows, config, tokenizer):
            pass
        end = tokenizer.end_of_text
        learned = [learned_row(row, end) for row in rows]
        batch = collate_rows(learned, self.model.config.context_length, end)
        log_p = self.log_probabilities(batch)
        assign_weights(self.sampled, dict(self.start.to(self.model.device).named_parameters()))
        log_ratios = self.log_probabilities(batch) - log_p  # 0 where there is no target
        kl = (log_ratios.exp() - 1 - log_ratios).sum(1) / math.log(2)
        answers = [Answer(row.text, row.reason == "stop_token") for row in rows]
        return DrawnAnswers(answers, learned, log_p.sum(1), kl)

    @torch.no_grad()
    def log_probabilities(self, batch: Batch) -> Tensor:
        """Returns those of a batch's targets by the weights that are in use, (n, T), on the CPU."""
        tokens, targets = (tensor.to(self.model.device) for tensor in batch)
        hidden_states = self.sampled.hidden_states(tokens)
        return target_log_probabilities(hidden_states, self.sampled.lm_head.weight, targets).cpu()


def learned_row(row: RowState, end_of_text: int) -> Row:
    """Returns a prompt and an answer, of which the answer and its end, if any, are learned."""
    new = [*row.tokens, *([end_of_text] if row.reason == "stop_token" else [])]
    tokens = np.array([*row.prompt, *new])
    return Row(tokens, np.arange(len(tokens)) >= len(row.prompt))
