"""What computing tokens and loading bytes takes on this machine, learned from doing it.

Work is counted in operations that follow from the model's shape; how many a second this machine
does, and how many bytes a second it loads, are averages in which the last second or two of work
count most. Until something was measured both are assumed.
"""

from __future__ import annotations

from typing import NamedTuple

from chunkwise.llm.models.base import ModelConfig

_LEAST_ROWS = 32
"""Steps with fewer rows wait for memory: they say nothing of prompts."""

_WINDOW_S = 2.0
_ASSUMED = {"operations": 1e11, "bytes": 1e9}
_PATIENCE = 50
"""Refusals to load until one is tried again: a disk that was slow once may not stay so."""


class Work(NamedTuple):
    """Operations of a model.

    Attributes:
        row: For one token, without attention.
        pair: For one token that sees one key.
    """

    row: float
    pair: float

    @classmethod
    def of(cls, config: ModelConfig) -> Work:
        """Those of a decoder: two for each weight, four for each number of a head."""
        q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        weights = config.hidden_size * (2 * q + 2 * kv + 3 * config.intermediate_size)
        return cls(2.0 * config.num_layers * weights, 4.0 * config.num_layers * q)


class CostModel:
    """Predicts milliseconds.

    Args:
        work: What the model's tokens take.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self._is_warm = False
        self._refusals = 0
        self._computing, self._loading = _Rate(_ASSUMED["operations"]), _Rate(_ASSUMED["bytes"])

    @property
    def is_measured(self) -> bool:
        """Whether anything was computed that counts."""
        return self._computing.seconds > 0

    def computed(self, rows: int, pairs: int, seconds: float) -> None:
        """Learn from a step; the first one of a process says nothing, it fetches code and weights.

        Args:
            rows: Its tokens.
            pairs: Keys that they saw, summed.
            seconds: What it took.
        """
        if rows < _LEAST_ROWS:
            return
        is_first, self._is_warm = not self._is_warm, True
        if not is_first:
            self._computing.learn(self._operations(rows, pairs), seconds)

    def loaded(self, nbytes: int, seconds: float) -> None:
        """Learn from what came from disk; from a trial after refusals, and from nothing before."""
        if self._refusals >= _PATIENCE:
            self._loading.forget()
        self._refusals = 0
        self._loading.learn(nbytes, seconds)

    def refused(self) -> None:
        """Count that a chunk was not loaded because computing it is faster."""
        self._refusals += 1

    def compute_ms(self, rows: int, first: int = 0) -> float:
        """Predicted time of computing tokens at positions `first .. first + rows`."""
        pairs = rows * first + rows * (rows + 1) // 2
        return 1e3 * self._operations(rows, pairs) / self._computing.per_second

    def load_ms(self, nbytes: int) -> float:
        """Predicted time of loading bytes from disk."""
        return 1e3 * nbytes / self._loading.per_second

    def is_worth_loading(self, rows: int, nbytes: int) -> bool:
        """Whether loading a chunk is faster than computing it, or is to be tried again."""
        return self.load_ms(nbytes) <= self.compute_ms(rows) or self._refusals >= _PATIENCE

    def _operations(self, rows: int, pairs: int) -> float:
        return rows * self.work.row + pairs * self.work.pair


class _Rate:
    """Something a second; of `_WINDOW_S` seconds, older ones count ever less."""

    def __init__(self, assumed: float) -> None:
        self.per_second, self.seconds = assumed, 0.0

    def forget(self) -> None:
        """Let what is learned next count alone."""
        self.seconds = 0.0

    def learn(self, amount: float, seconds: float) -> None:
        """Take a measurement in; one that took no time by the clock says nothing."""
        if seconds <= 0:
            return
        kept = min(self.seconds, max(_WINDOW_S - seconds, 0.0))
        self.per_second = (self.per_second * kept + amount) / (kept + seconds)
        self.seconds = kept + seconds
