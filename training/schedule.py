"""The learning rate: a linear warm-up, then a decay to the final rate.

    step <  warmup:  lr = peak (step + 1) / warmup
    cosine:          lr = final + (peak - final) (1 + cos(pi p)) / 2       p from 0 to 1
    trapezoid:       lr = final + (peak - final) min(1, (1 - p) / 0.4)

The trapezoid is the warmup-stable-decay schedule (WSD), with a linear decay: its constant part
does not depend on the last step, so a run can go on for longer than was planned.
A pure function of the step: a resumed run needs nothing but the step.      Hagele et al. 2024
Previous: __init__.py.  Next: adamw.py.
"""

import math

from cfg_gpt2 import TrainConfig

DECAY = 0.4  # the share of the steps after the warm-up in which a trapezoid decays


def learning_rate(step: int, config: TrainConfig) -> float:
    """Returns the learning rate of an optimizer step; the first step is 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    last = max(config.max_steps - 1, config.warmup_steps + 1)
    progress = min((step - config.warmup_steps) / (last - config.warmup_steps), 1.0)
    if config.schedule == "cosine":
        height = (1 + math.cos(math.pi * progress)) / 2
    else:
        height = min(1.0, (1 - progress) / DECAY)
    return config.final_learning_rate + height * (config.learning_rate - config.final_learning_rate)
