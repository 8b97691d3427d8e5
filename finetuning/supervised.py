"""Supervised finetuning: the next-token loss of what the assistant says, and of nothing else.

    loss = -log softmax(h W^T)[target],   the sum over the positions with a target

The targets of a dialogue are the tokens of the answers, each with its end; all others are
IGNORE_INDEX. In a dialogue often less than a tenth of the tokens have a target, so only their
positions go through the output layer: at 50,257 tokens it is a third of GPT-2's multiplications.
Previous: adapter_files.py.  Next: preference_settings.py.
"""

from torch import Tensor

from gpt2 import GPT2Model
from training.kernels.cross_entropy import scored_cross_entropy
from training.runtime import Batch
from training.sums import Sums


def supervised_loss(model: GPT2Model, batch: Batch) -> tuple[Tensor, Tensor, Sums]:
    """Returns trainer.language_model_loss of a batch, computed where there are targets only.

    batch holds tokens and targets, (B, T) each. The result is the sum of losses in nats, the
    number of targets, and no further sums. A batch without any target gives 0 and 0.
    """
    tokens, targets = batch
    hidden_states = model.hidden_states(tokens)
    return *scored_cross_entropy(hidden_states, model.lm_head.weight, targets), {}
