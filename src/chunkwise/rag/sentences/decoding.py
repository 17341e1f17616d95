"""Sentences from log-odds: all places above 0, unless one gets too long or too short.

Source: length-constrained decoding of SaT (wtpsplit 2.2).
Differs: sums log-odds, not log-probabilities, so that without limits it is plain thresholding;
    SaT's sum makes every cut cost something. The tiling is looked for only where a sentence
    breaks a limit, over twice the longest length, and its first sentence is kept, so that text
    further on changes nothing.
Exact when: `min_chars=1` and no sentence is longer than `max_chars`: thresholding.
Cost: O(n); where limits bind, O(candidates^2) a sentence with at most some 100 candidates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from chunkwise.errors import ConfigError
from chunkwise.rag._tiling import segment_dp
from chunkwise.rag.sentences.tokens import Ints
from chunkwise.types import BoundaryOdds

_LEAST_CHARS = 64  # of `max_chars`: some tokens fit
_BLOCKS = 8  # in each eighth of `max_chars` one place at least may be an end
_MOST_LIKELY = 64
_LARGEST = 30.0
_TOO_SHORT = -1000.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Lengths of sentences in characters, blank edges left out.

    Attributes:
        min_chars: Shorter ones are joined with a neighbour, if that is not too long then.
        max_chars: Longer ones are cut where it is likeliest; always kept.
    """

    min_chars: int
    max_chars: int

    def __post_init__(self) -> None:
        if self.max_chars < _LEAST_CHARS:
            raise ConfigError(
                f"`max_chars` must be at least {_LEAST_CHARS}, got {self.max_chars!r}."
            )
        if not 1 <= 2 * self.min_chars <= self.max_chars + 1:
            raise ConfigError(
                f"`min_chars` must be in [1, {(self.max_chars + 1) // 2}], half of `max_chars`, "
                f"got {self.min_chars!r}."
            )

    @property
    def look_ahead_chars(self) -> int:
        """How far from its start the text decides where a sentence ends."""
        return 2 * self.max_chars


def sentences(
    odds: BoundaryOdds, limits: Limits, first: int = 0, *, is_last: bool = True
) -> Iterator[tuple[int, int]]:
    """Ranges of tokens `[i, j)`, one a sentence, that are decided.

    Args:
        odds: Tokens and log-odds.
        limits: Lengths.
        first: Token that the first sentence begins with.
        is_last: The text ends behind the last token; else what needs more text is left out.
    """
    n = len(odds.values)
    likely = np.flatnonzero(odds.values > 0)
    while first < n:
        stop = _fitting(odds, limits, first, likely, is_last)
        if not stop:
            reach = int(np.searchsorted(odds.ends, odds.starts[first] + limits.look_ahead_chars))
            if reach >= n and not is_last:
                return
            stop = _first_of_tiling(odds, limits, first, min(reach + 1, n), is_whole=reach >= n)
        yield first, stop
        first = stop


def _fitting(odds: BoundaryOdds, limits: Limits, first: int, likely: Ints, is_last: bool) -> int:
    """The next end by threshold if it breaks no limit and none after it does; else 0."""
    at = int(np.searchsorted(likely, first))
    stop = _stop(odds, likely, at, is_last)
    length = odds.ends[stop - 1] - odds.starts[first]
    if not stop or not limits.min_chars <= length <= limits.max_chars:
        return 0
    if limits.min_chars == 1 or (stop == len(odds.values) and is_last):
        return stop
    after = _stop(odds, likely, at + 1, is_last)
    is_fine = after and odds.ends[after - 1] - odds.starts[stop] >= limits.min_chars
    return stop if is_fine else 0


def _stop(odds: BoundaryOdds, likely: Ints, at: int, is_last: bool) -> int:
    """One past the token of the end number `at`; the text's end where there is no other; or 0."""
    n = len(odds.values)
    if at < len(likely):
        return int(likely[at]) + 1
    return n if is_last else 0


def _first_of_tiling(
    odds: BoundaryOdds, limits: Limits, first: int, last: int, *, is_whole: bool
) -> int:
    """Where the first sentence of the best tiling of tokens `[first, last)` ends."""
    places = _candidates(odds, limits, first, last)
    begins = [first, *(place + 1 for place in places)]
    starts = [int(odds.starts[begin]) for begin in begins[:-1]]
    ends = [int(odds.ends[place]) for place in places]
    worth = [float(np.clip(odds.values[place], -_LARGEST, _LARGEST)) for place in places]
    worth[-1] = 0.0

    def gain(i: int, j: int) -> float:
        length = ends[j - 1] - starts[i]
        if length > limits.max_chars:
            return -math.inf
        is_short = length < limits.min_chars and (is_whole or j < len(ends))
        return worth[j - 1] + (_TOO_SHORT if is_short else 0.0)

    tiles = segment_dp(gain, len(places), 1, len(places))
    return places[tiles[0][1] - 1] + 1


def _candidates(odds: BoundaryOdds, limits: Limits, first: int, last: int) -> list[int]:
    """Tokens that a sentence may end with: the likeliest, one in each stretch, and the last."""
    values = odds.values[first:last]
    chosen = set(np.argsort(-values, kind="stable")[:_MOST_LIKELY].tolist())
    blocks = (odds.ends[first:last] - odds.starts[first]) * _BLOCKS // limits.max_chars
    edges = np.flatnonzero(np.diff(blocks, prepend=-1)).tolist()
    for low, high in zip(edges, [*edges[1:], last - first], strict=True):
        chosen.add(low + int(values[low:high].argmax()))
    gaps = odds.starts[first + 1 : last] - odds.ends[first : last - 1]
    chosen.update(np.flatnonzero(gaps * _BLOCKS > limits.max_chars).tolist())
    return [first + place for place in sorted(chosen | {last - first - 1})]
