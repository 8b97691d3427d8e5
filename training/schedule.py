"""The learning rate: a linear warm-up, then half a cosine down to the final rate.

    step <  warmup:  lr = highest (step + 1) / warmup
    step >= warmup:  lr = final + (highest - final) (1 + cos(pi p)) / 2,   p from 0 to 1

A pure function of the step, so a resumed run needs nothing but the step.
"""

import math

from cfg_gpt2 import TrainConfig


def learning_rate(step: int, config: TrainConfig) -> float:
    """The rate of optimizer step `step`, which counts from 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    last = max(config.max_steps - 1, config.warmup_steps + 1)
    done = min((step - config.warmup_steps) / (last - config.warmup_steps), 1.0)
    span = config.learning_rate - config.final_learning_rate
    return config.final_learning_rate + span * (1 + math.cos(math.pi * done)) / 2
