"""The learning rate: a linear warm-up, then down to the final rate.

    step <  warmup:  lr = highest (step + 1) / warmup
    cosine:          lr = final + (highest - final) (1 + cos(pi p)) / 2       p from 0 to 1
    trapezoid:       lr = final + (highest - final) min(1, (1 - p) / 0.4)

A pure function of the step, so a resumed run needs nothing but the step. A trapezoid's flat part
does not know when it ends: it can go on longer than was planned.      Hagele et al. 2024
"""

import math

from cfg_gpt2 import TrainConfig

DECAY = 0.4  # of a trapezoid's steps


def learning_rate(step: int, config: TrainConfig) -> float:
    """The rate of optimizer step `step`, which counts from 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    last = max(config.max_steps - 1, config.warmup_steps + 1)
    done = min((step - config.warmup_steps) / (last - config.warmup_steps), 1.0)
    if config.schedule == "cosine":
        height = (1 + math.cos(math.pi * done)) / 2
    else:
        height = min(1.0, (1 - done) / DECAY)
    return config.final_learning_rate + height * (config.learning_rate - config.final_learning_rate)
