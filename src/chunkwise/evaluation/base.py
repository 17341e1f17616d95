"""Per-question rows, their means, and whether two systems differ by more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.evaluation.bootstrap import Interval, paired_bootstrap


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
