"""How well section ends are found in held-out documents: Pk and AUC, beside plain baselines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chunkwise.evaluation.boundaries import pk, window_size

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_THRESHOLDS = 200
_DRAWS = 20


def pooled_pk(scores: Sequence[Floats], ends: Sequence[Flags], threshold: float) -> float:
    """Pk of documents together, their windows of units weighing the same.

    Args:
        scores: Of the gaps of each document: above the threshold a section ends.
        ends: Where sections end.
        threshold: The threshold.
    """
    return _pk([score > threshold for score in scores], ends)


def best_threshold(scores: Sequence[Floats], ends: Sequence[Flags]) -> float:
    """The threshold with the lowest Pk, of those that part the scores evenly; the highest one of
    equals."""
    tried = np.unique(np.quantile(np.concatenate(scores), np.linspace(0, 1, _THRESHOLDS)))
    return float(min(tried[::-1], key=lambda threshold: pooled_pk(scores, ends, threshold)))


def auc(scores: Sequence[Floats], ends: Sequence[Flags]) -> float:
    """How often a gap where a section ends scores higher than one where none does; ties count
    half. NaN if there are none of one kind."""
    values, labels = np.concatenate(scores), np.concatenate(ends)
    distinct, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives or not len(distinct):
        return math.nan
    above = float(ranks[labels].sum()) - positives * (positives + 1) / 2
    return above / (positives * negatives)


def random_pk(ends: Sequence[Flags], share: float, seed: int) -> float:
    """Mean Pk of ends drawn at random, as often as sections end."""
    chance = np.random.default_rng(seed)
    draws = [_pk([chance.random(len(e)) < share for e in ends], ends) for _ in range(_DRAWS)]
    return float(np.mean(draws))


def _pk(found: Sequence[Flags], ends: Sequence[Flags]) -> float:
    errors, windows = 0.0, 0
    for guess, gold in zip(found, ends, strict=True):
        length = len(gold) + 1
        places = (np.flatnonzero(gold) + 1).tolist()
        count = length - window_size(length, len(places) + 1)
        errors += count * pk(places, (np.flatnonzero(guess) + 1).tolist(), length)
        windows += count
    return errors / max(1, windows)
