"""Preference optimization: of two answers to a prompt, the chosen one becomes the likelier one.

    log ratio = log p(answer) - log p_start(answer)        sums over the answer's tokens and its end
    margin    = log ratio of the chosen answer - log ratio of the rejected one
    DPO       = -log sigmoid(beta margin)                           Rafailov et al. 2023, eq. 7
    IPO       = (margin of the means per token - 1 / (2 beta))^2    Azar et al. 2023, eq. 17

p_start are the weights that finetuning begins with; their log-probabilities are computed once,
before the first step (pairs.py). Both losses know only the difference, so both answers may become
unlikely together; a tenth of the chosen answer's loss per token holds against that.
Previous: pairs.py.  Next: labelled_pairs.py.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from finetuning.preference_settings import PreferenceConfig
from gpt2 import GPT2Model
from loss import IGNORE_INDEX
from training.sums import TOKENS, Sums
from training.training_data import Batch

DEFAULT = PreferenceConfig()
LOGITS_AT_A_TIME = 1 << 24  # 64 MB in fp32
WORRYING_FALL = 1.0  # nats per token of the chosen answers

PairLoss = Callable[[Tensor, Tensor, float], Tensor]


def dpo(log_ratios: Tensor, n_tokens: Tensor, beta: float) -> Tensor:
    """(n, 2), (n, 2) -> (n,): log ratios of chosen and rejected answers, and their lengths."""
    chosen, rejected = log_ratios.unbind(1)
    return -F.logsigmoid(beta * (chosen - rejected))


def ipo(log_ratios: Tensor, n_tokens: Tensor, beta: float) -> Tensor:
    """(n, 2), (n, 2) -> (n,): log ratios of chosen and rejected answers, and their lengths."""
    chosen, rejected = (log_ratios / n_tokens).unbind(1)
    return (chosen - rejected - 1 / (2 * beta)) ** 2


PAIR_LOSSES: Mapping[str, PairLoss] = {"dpo": dpo, "ipo": ipo}


def preference_loss(
    model: GPT2Model, batch: Batch, config: PreferenceConfig = DEFAULT
) -> tuple[Tensor, Tensor, Sums]:
    """Returns the sum of the losses of pairs, their number, and sums of what tells how it goes.

    batch: the start weights' log-probabilities (2n,), tokens and targets (2n, T); the rows of a
    pair follow each other, the chosen answer first. A pair without targets does not count.
    """
    reference, tokens, targets = batch
    n_targets = (targets != IGNORE_INDEX).sum(1).view(-1, 2)  # (n, 2)
    n_tokens = n_targets.clamp(min=1)
    log_p = answer_log_probabilities(model, tokens, targets).view(-1, 2)
    log_ratios = log_p - reference.view(-1, 2)
    losses = PAIR_LOSSES[config.loss](log_ratios, n_tokens, config.beta)
    losses = losses - config.chosen_nll * (log_p / n_tokens)[:, 0]
    counts = (n_targets > 0).all(1)
    with torch.no_grad():
        margins = log_ratios[:, 0] - log_ratios[:, 1]
        chosen, rejected = (log_p / n_tokens).unbind(1)
        of_pairs = {
            "chosen": chosen,  # nats per token, as the next two
            "rejected": rejected,
            "chosen_gain": (log_ratios / n_tokens)[:, 0],
            "margin": margins,  # nats
            "accuracy": (1 + margins.sign()) / 2,  # of a tie, as at the start weights, a half
        }
        sums = {name: values.where(counts, 0).sum() for name, values in of_pairs.items()}
    return losses.where(counts, 0).sum(), counts.sum(), sums | {TOKENS: n_targets.sum()}


def answer_log_probabilities(model: GPT2Model, tokens: Tensor, targets: Tensor) -> Tensor:
    """(R, T), (R, T) -> (R,): the log-probability of each row's targets together, in nats."""
    hidden_states = model.hidden_states(tokens)
    return target_log_probabilities(hidden_states, model.lm_head.weight, targets).sum(1)


def target_log_probabilities(hidden_states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """(B, T, C), (V, C), (B, T) -> (B, T): the log-probability of each target, 0 where none is.

    The logits of some rows are computed at a time, and again in the backward pass: kept, they
    would take more memory than all else.
    """

    def of_rows(x: Tensor, targets_of_x: Tensor) -> Tensor:
        logits = F.linear(x, weight).float()  # (R, V)
        return -F.cross_entropy(logits, targets_of_x, reduction="none")

    scored = (targets.flatten() != IGNORE_INDEX).nonzero().squeeze(1)  # (R,)
    rows = hidden_states.flatten(0, 1).index_select(0, scored)  # (R, C)
    n_chunks = max(1, -(-len(rows) * len(weight) // LOGITS_AT_A_TIME))
    chunks = rows.chunk(n_chunks), targets.flatten()[scored].chunk(n_chunks)
    log_p = [
        checkpoint(of_rows, *chunk, use_reentrant=False, preserve_rng_state=False)
        for chunk in zip(*chunks, strict=True)
    ]
    zeros = hidden_states.new_zeros(targets.numel(), dtype=torch.float32)
    return zeros.index_copy(0, scored, torch.cat(log_p)).view(targets.shape)


def warn_of_fall(metrics: Mapping[str, float]) -> str | None:
    """Returns a sentence where the chosen answers have become much less likely; else None."""
    gain = metrics.get("val_chosen_gain", 0.0)
    if gain > -WORRYING_FALL:
        return None
    return (
        f"the chosen answers have lost {-gain:.1f} nats per token since the start: the model is "
        "forgetting how to write them; try a lower --train.learning-rate, or a higher "
        "--preference.beta or --preference.chosen-nll"
    )
