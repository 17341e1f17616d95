"""Cuts where a trained segmenter is surest that a sentence ends, by lengths that are wanted.

The segmenter's log-odds of an end against a threshold, plus the logarithm of a prior on the length
of chunks, summed over the chunks: the tiling with the largest sum within the limits.

Source: length-constrained decoding of SaT (wtpsplit 2.2): priors uniform, Gaussian, clipped
    polynomial.
Differs: sums log-odds against a threshold, where SaT sums log-probabilities, by which every cut
    costs something. Log-odds are bounded first, so that a prior can outweigh a sure end: of two
    full stops the surer one is no better place for a chunk to end. Lengths are in tokens and
    shares of `size`.
Exact when: the prior is uniform, `min_size` 1 and all sentences fit `size`: plain thresholding.
Cost: one pass of the segmenter; the programme is O(n x places in a chunk), some 16 places and those
    above the threshold.
Helps or hurts: chunks of 120 tokens in the mean, hybrid search, Chroma's three corpora (231
    questions): recall at 400 tokens -1.7 points [-5.5, +2.2] against `recursive`, IoU -0.2
    [-0.7, +0.4]; XQuAD in Chinese (100) +3.0 [-5.4, +11.0].
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.rag.chunking.pieces import (
    Ruler,
    add_overlap,
    best_runs,
    check_ratio,
    check_sizes,
    fitting_pieces,
    merge,
)
from chunkwise.types import BoundaryOdds, BoundaryScorer, Document, Query, Span, TokenCounter

__all__ = ["LearnedSentenceChunker"]

Prior = Literal["uniform", "gaussian", "polynomial"]

_LARGEST = 4.0  # log-odds, about 98 in 100: no end is surer
_LEAST = -20.0  # of a prior's logarithm
_TOO_SHORT = -1000.0
_PLACES = 16  # unlikely ends looked at in the length of a chunk, at least


@dataclass(frozen=True, kw_only=True)
class LearnedSentenceChunker:
    """Cuts at sure ends of sentences, near the wanted length.

    Attributes:
        counter: Counts the tokens.
        boundaries: Says how surely sentences end.
        size: Most tokens of a chunk.
        overlap: Tokens of the chunk before that a chunk repeats, at most; in [0, size).
        threshold: Probability, over the one that the segmenter was fitted to, above which an end is
            worth something, in (0, 1). The higher, the more the prior decides.
        prior: On lengths: `uniform`, `gaussian`, or `polynomial`, 1 - ((length - target) /
            spread)^2 where that is above 0.
        target: Length that is wanted, as a share of `size`, in (0, 1].
        spread: The prior's width, as a share of `size`, in (0, 1].
        min_size: Fewest tokens of a chunk where that can be, in [1, size].
    """

    counter: TokenCounter
    boundaries: BoundaryScorer
    size: int = 140
    overlap: int = 0
    threshold: float = 0.95
    prior: Prior = "gaussian"
    target: float = 0.75
    spread: float = 0.25
    min_size: int = 1

    def __post_init__(self) -> None:
        check_sizes(self.size, self.overlap)
        if self.prior not in get_args(Prior):
            known = ", ".join(get_args(Prior))
            raise ConfigError(f"`prior` must be one of {known}, got {self.prior!r}.")
        if not 0 < self.threshold < 1:
            raise ConfigError(f"`threshold` must be in (0, 1), got {self.threshold!r}.")
        for name in ("target", "spread"):
            check_ratio(name, getattr(self, name))
            if not getattr(self, name):
                raise ConfigError(f"`{name}` must be above 0.")
        if not 1 <= self.min_size <= self.size:
            raise ConfigError(
                f"`min_size` must be in [1, size={self.size}], got {self.min_size!r}."
            )

    def split(self, document: Document, query: Query | None = None) -> list[Span]:
        """Spans of the chunks; see `Chunker`."""
        ruler, room = Ruler(document, self.counter, self.size), self.size - self.overlap
        odds = self._odds(document.text)
        hopeless = -self._largest - self._needed
        kept = _candidates(odds, max(1, room // _PLACES), hopeless)
        sure: dict[int, float] = dict(
            zip(odds.ends[kept].tolist(), odds.values[kept].tolist(), strict=True)
        )
        pieces = fitting_pieces(ruler, _between(sure, len(document.text)), room)
        if len(pieces) < 2:
            return pieces
        firsts = [ruler.index(piece.start) for piece in pieces]
        lasts = [ruler.index(piece.end) for piece in pieces]
        worth: list[float] = [0.0, *(sure.get(piece.end, hopeless) for piece in pieces[:-1])]
        prior = self._prior(room)

        def gain(i: int, j: int) -> float:
            return worth[i] + prior(max(1, lasts[j - 1] - firsts[i]))

        runs = best_runs(ruler, pieces, room, gain)
        return add_overlap(ruler, merge(ruler, pieces, runs, room), self.overlap)

    def _odds(self, text: str) -> BoundaryOdds:
        """Bounded log-odds, less those of the threshold."""
        starts, ends, values = self.boundaries.log_odds(text)
        return BoundaryOdds(
            starts, ends, np.clip(values, -self._largest, self._largest) - self._needed
        )

    @property
    def _needed(self) -> float:
        """Log-odds of the threshold."""
        return math.log(self.threshold / (1 - self.threshold))

    @property
    def _largest(self) -> float:
        return max(_LARGEST, abs(self._needed) + 1)

    def _prior(self, room: int) -> Callable[[int], float]:
        """Logarithm of the prior of a length in tokens, up to a constant."""
        target, spread = self.target * room, self.spread * room
        shortest = min(self.min_size, room)

        def log_prior(length: int) -> float:
            apart = ((length - target) / spread) ** 2
            found = 0.0
            if self.prior == "gaussian":
                found = -apart / 2
            elif self.prior == "polynomial":
                found = max(_LEAST, math.log1p(-apart)) if apart < 1 else _LEAST
            return found + (_TOO_SHORT if length < shortest else 0.0)

        return log_prior


def _candidates(odds: BoundaryOdds, stride: int, hopeless: float) -> NDArray[np.int64]:
    """Tokens that a chunk may end with: all above the threshold, and of each `stride` tokens the
    likeliest, if its value is above `hopeless`."""
    blocks = np.arange(len(odds.values)) // stride
    order = np.lexsort((-odds.values, blocks))
    best = order[np.flatnonzero(np.diff(blocks[order], prepend=-1))]
    is_kept = odds.values > 0
    is_kept[best] |= odds.values[best] > hopeless
    return np.flatnonzero(is_kept)


def _between(ends: dict[int, float], length: int) -> Iterator[Span]:
    """Spans that end at these characters, and the rest."""
    return (Span(*pair) for pair in itertools.pairwise([0, *ends, length]))
