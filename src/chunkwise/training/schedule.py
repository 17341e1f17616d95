"""The learning rate at each step: a linear warm-up, then half a cosine.

Source: SGDR's cosine without restarts; re-warming for continued training as in Gupta et al.,
Continual Pre-Training of Large Language Models: How to (re)warm your model? (arXiv 2308.04014).
"""

from __future__ import annotations

import math

from chunkwise.training.base import Plan


def learning_rate(plan: Plan, step: int) -> float:
    """The learning rate of step `step` in [0, steps); the peak after the warm-up, then falling.

    The warm-up has `round(warmup_ratio * steps)` steps and starts one of its equal rises above
    `start_ratio` of the peak; the last step has `floor_ratio` of it.
    """
    warmup = round(plan.warmup_ratio * plan.steps)
    if step < warmup:
        risen = (step + 1) / warmup
        return plan.peak_lr * (plan.start_ratio + (1 - plan.start_ratio) * risen)
    fallen = (step - warmup + 1) / max(plan.steps - warmup, 1)
    height = (1 + math.cos(math.pi * min(fallen, 1.0))) / 2
    return plan.peak_lr * (plan.floor_ratio + (1 - plan.floor_ratio) * height)
