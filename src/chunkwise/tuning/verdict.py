"""Whether the best of many configurations is better than others by more than chance.

Source: the paired percentile bootstrap (Efron, 1979); simultaneous intervals from the bootstrap of
    the largest standardised difference (Westfall and Young, 1993, "max-T").
Differs: configurations may have been asked fewer questions than others: each difference is of the
    questions that both were asked, and all are resampled together. Nothing is claimed of fewer
    than 10 questions or documents, nor of a difference that is the same on all questions: the
    bootstrap of these shows no chance at all.
Exact when: never. The best of many looks better than it is, also where all are alike; therefore its
    interval against the present settings holds for all configurations that were tried at once, and
    several looks at the same questions share 5 % of error, most of it for the last.
Cost: O(resamples * configurations * questions).
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from chunkwise.evaluation.bootstrap import (
    LEAST_UNITS,
    Floats,
    Interval,
    Statistic,
    bootstrap,
    ratio,
)

_RESAMPLES: Final = 4_000
_WIDTH: Final = 1.96
_ALIKE: Final = 1e-9  # a width of rounding errors only


@dataclass(frozen=True, slots=True)
class Verdict:
    """What can be said of the configurations that are left.

    Attributes:
        leader: The best.
        present: The present settings.
        gains: Each that was tried less the present settings; the intervals hold together. NaN
            are the bounds of one that nothing can be claimed of.
        rivals: The leader less each other one that is left, with its interval.
    """

    leader: int
    present: int
    gains: Mapping[int, Interval]
    rivals: Mapping[int, Interval]

    @property
    def open_rivals(self) -> list[int]:
        """Those that the leader is not better than by more than chance."""
        return [i for i, interval in self.rivals.items() if not interval.low > 0]

    @property
    def is_gain(self) -> bool:
        """Whether the leader is better than the present settings by more than chance."""
        return self.leader != self.present and self.gains[self.leader].low > 0

    @property
    def is_clear(self) -> bool:
        """Whether the leader is better than all that are left, by more than chance."""
        return not self.open_rivals and (self.leader == self.present or self.is_gain)


def decide(
    values: Mapping[int, Floats],
    left: Sequence[int],
    *,
    present: int,
    clusters: Sequence[Hashable] = (),
    error: float = 0.05,
    seed: int = 0,
) -> Verdict:
    """The verdict on the configurations that are left.

    Args:
        values: What each one that was tried scored, question by question from the first; the
            present settings were asked at least as many as any other.
        left: Those that are still in the race; the leader is one of them.
        present: The present settings.
        clusters: The document of each question, or none: as in `bootstrap`.
        error: Chance that all that is said may be wrong by.
        seed: Same seed, same verdict.
    """
    scores = {i: estimate(values[i], values[present]) for i in left}
    leader = max(left, key=lambda i: scores[i])  # the first of equals
    level = 1.0 - error
    others = [i for i in left if i not in (leader, present)]
    less = {i: _difference(values[leader], values[i]) for i in others}
    rivals = bootstrap(
        _means(less),
        len(values[leader]),
        clusters=clusters[: len(values[leader])],
        resamples=_RESAMPLES,
        seed=seed,
        level=level,
    )
    rivals = {i: _claimed(each, less[int(i)], clusters) for i, each in rivals.items()}
    gains = gains_over(values, present=present, clusters=clusters, level=level, seed=seed)
    if leader != present:
        rivals[str(present)] = gains[leader]
    return Verdict(leader, present, gains, {int(i): each for i, each in rivals.items()})


def estimate(values: Floats, present: Floats) -> float:
    """The mean over all questions of one that was asked some of them.

    It is the mean of the present settings, plus the difference on the questions both were asked:
    that some questions are easier than others then does not matter.
    """
    asked = min(len(values), len(present))
    return float(present.mean() + (values[:asked] - present[:asked]).mean())


def gains_over(
    values: Mapping[int, Floats],
    *,
    present: int,
    clusters: Sequence[Hashable] = (),
    level: float = 0.95,
    seed: int = 0,
) -> dict[int, Interval]:
    """Each configuration less the present one; all intervals hold together in `level` of cases.

    One that was asked too little, or is better by the same on all questions, has none.
    """
    base = values[present]
    gains = {i: each - base[: len(each)] for i, each in values.items() if i != present}
    means = _means(gains)
    resampled = functools.partial(
        bootstrap, num_rows=len(base), clusters=clusters, resamples=_RESAMPLES, seed=seed
    )
    apart = resampled(means)
    spread = {key: (each.high - each.low) / (2 * _WIDTH) for key, each in apart.items()}
    alike = {key for key, width in spread.items() if not width > _ALIKE}

    def largest(drawn: Floats) -> dict[str, Floats]:
        found = [
            np.abs(mean - apart[key].value) / spread[key]
            for key, mean in means(drawn).items()
            if key not in alike
        ]
        return {"largest": np.fmax.reduce(found)} if found else {}

    # An interval of the largest one, of which only the upper end counts.
    one_sided = resampled(largest, level=2 * level - 1)
    reach = one_sided["largest"].high if one_sided else 0.0
    wide = {int(key): _widened(each.value, spread[key] * reach) for key, each in apart.items()}
    return {i: _claimed(each, gains[i], clusters) for i, each in wide.items()}


def _claimed(interval: Interval, less: Floats, clusters: Sequence[Hashable]) -> Interval:
    """The interval, without bounds where nothing can be claimed of these differences."""
    units = len(set(clusters[: len(less)])) if clusters else len(less)
    is_sure = interval.high - interval.low > _ALIKE or not np.any(less)
    if units >= LEAST_UNITS and is_sure:
        return interval
    return Interval(interval.value, np.nan, np.nan)


def _difference(one: Floats, other: Floats) -> Floats:
    """On the questions that both were asked."""
    asked = min(len(one), len(other))
    return one[:asked] - other[:asked]


def _means(rows: Mapping[int, Floats]) -> Statistic:
    """The mean of each, all of the same draws; those of one length are computed together."""
    lengths: dict[int, list[int]] = {}
    for i, each in rows.items():
        lengths.setdefault(len(each), []).append(i)
    stacked = {n: np.stack([rows[i] for i in places]) for n, places in lengths.items()}

    def means(drawn: Floats) -> dict[str, Floats]:
        found: dict[str, Floats] = {}
        for n, places in lengths.items():
            part = drawn[:, :n]
            sums, counts = stacked[n] @ part.T, part.sum(axis=1)
            found |= {str(i): ratio(each, counts) for i, each in zip(places, sums, strict=True)}
        return found

    return means


def _widened(value: float, reach: float) -> Interval:
    return Interval(value, value - reach, value + reach)
