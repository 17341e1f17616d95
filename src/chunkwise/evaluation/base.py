"""Per-question rows, their means, and whether two systems differ by more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError


class Interval(NamedTuple):
    """A mean difference and the interval that holds it in 95 % of the resamples."""

    mean: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """True when the interval does not hold zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Report:
    """What one system scored, question by question.

    Attributes:
        name: The system.
        rows: One row per question, in the order of the questions; all with the same keys.
    """

    name: str
    rows: Sequence[Mapping[str, float]]

    def column(self, metric: str) -> NDArray[np.float64]:
        """Values of one metric: `(num_questions,)`."""
        return np.array([row[metric] for row in self.rows], dtype=np.float64)

    def means(self) -> dict[str, float]:
        """Mean of every metric over the questions; empty without rows."""
        return {key: float(self.column(key).mean()) for key in (self.rows[0] if self.rows else {})}


def compare(
    system: Report, baseline: Report, *, resamples: int = 10_000, seed: int = 0
) -> dict[str, Interval]:
    """Mean difference `system - baseline` of every metric both have, with its 95 % interval.

    Raises:
        ConfigError: The reports have not the same number of questions, or none.
    """
    if len(system.rows) != len(baseline.rows) or not system.rows:
        raise ConfigError(
            f"A paired comparison needs the same questions: {system.name!r} has "
            f"{len(system.rows)}, {baseline.name!r} has {len(baseline.rows)}."
        )
    shared = [key for key in system.rows[0] if key in baseline.rows[0]]
    return {
        key: paired_bootstrap(
            system.column(key) - baseline.column(key), resamples=resamples, seed=seed
        )
        for key in shared
    }


def paired_bootstrap(
    differences: NDArray[np.float64], *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile bootstrap of the mean of per-question differences.

    Args:
        differences: One system's values less another's, question by question: `(n,)`, n > 0.
        resamples: How often to resample the questions with replacement.
        seed: Same seed, same interval.
    """
    if differences.ndim != 1 or not len(differences) or resamples < 1:
        raise ConfigError(
            f"A bootstrap needs a row of differences and `resamples` > 0, "
            f"got shape {differences.shape!r} and {resamples!r}."
        )
    chance = np.random.default_rng(seed)
    # Drawn in blocks, so that many questions and many resamples need little memory.
    block = max(1, 4_000_000 // len(differences))
    means = np.concatenate(
        [
            differences[chance.integers(0, len(differences), (count, len(differences)))].mean(1)
            for count in _blocks(resamples, block)
        ]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(differences.mean()), float(low), float(high))


def _blocks(total: int, block: int) -> list[int]:
    full, rest = divmod(total, block)
    return [block] * full + ([rest] if rest else [])
