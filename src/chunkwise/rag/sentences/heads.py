"""From the network's outputs to one number a token: above 0 a sentence ends behind it.

A head is a logistic regression over all outputs, as WtP's adapted models are, with one threshold
for each of six situations: whether the rules end a sentence there, and whether there is
punctuation around, or at least upper case. Where there is punctuation, the rules are nearly always
right and the network has to be sure to overrule them; where it was lost they see nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ModelFormatError
from chunkwise.rag.sentences.network import FIRST_MARK, NUM_OUTPUTS, SENTENCE, Floats
from chunkwise.rag.sentences.tokens import Flags, Ints, Tokens

CELLS: Final = (
    "bare, silent",
    "bare, ruled",
    "cased, silent",
    "cased, ruled",
    "punctuated, silent",
    "punctuated, ruled",
)
"""Situations of a token: is there punctuation around, or upper case, and do the rules end a
sentence behind it?"""

AROUND_BEFORE: Final = 160
AROUND_BEHIND: Final = 96
"""How far a mark counts as around, before and behind: a word is 2, a single character 1."""

SURE: Final = 60.0
"""An offset that no log-odds outweigh: the rules decide alone."""

_LARGEST = 15.0  # of a feature


@dataclass(frozen=True, slots=True)
class Head:
    """How sentence ends are told from outputs.

    Attributes:
        weights: Of the features: `(NUM_OUTPUTS,)`.
        offsets: Added in each of the `CELLS`; minus the log-odds of its threshold.
    """

    weights: tuple[float, ...]
    offsets: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.weights) != NUM_OUTPUTS or len(self.offsets) != len(CELLS):
            raise ModelFormatError(
                f"A segmenter's head needs {NUM_OUTPUTS} weights and {len(CELLS)} offsets, got "
                f"{len(self.weights)} and {len(self.offsets)}."
            )

    def log_odds(self, outputs: Floats, cells: Ints) -> NDArray[np.float64]:
        """Log-odds of a sentence's end behind each token, thresholds at 0: `(n,)`."""
        found: NDArray[np.float64] = features(outputs) @ np.array(self.weights)
        found += np.array(self.offsets)[cells]
        return found


UNADAPTED: Final = Head(
    tuple(float(i == SENTENCE) for i in range(NUM_OUTPUTS)), (0.0, 0.0, 0.0, 0.0, -SURE, SURE)
)
"""The network's own log-odds; the rules alone where there is punctuation."""


def features(outputs: Floats) -> NDArray[np.float64]:
    """Log-odds and log-probabilities, bounded: `(n, NUM_OUTPUTS)`."""
    found = outputs.astype(np.float64)
    marks = found[:, FIRST_MARK:]
    marks = marks - marks.max(axis=1, keepdims=True, initial=-_LARGEST)
    found[:, FIRST_MARK:] = marks - np.log(np.exp(marks).sum(axis=1, keepdims=True))
    return np.clip(found, -_LARGEST, _LARGEST)


def situations(tokens: Tokens, is_ruled: Flags) -> Ints:
    """Which of the `CELLS` each token is in: `(n,)`."""
    places = np.cumsum(np.where(tokens.is_single, 1, 2))
    low = np.searchsorted(places, places - AROUND_BEFORE)
    high = np.searchsorted(places, places + AROUND_BEHIND, side="right")
    level = np.zeros(len(places), np.int64)
    for above, flags in ((1, tokens.is_capital), (2, tokens.is_mark)):
        before = np.concatenate([[0], np.cumsum(flags)])
        level[before[high] > before[low]] = above
    cells: Ints = 2 * level + is_ruled
    return cells


def read_head(raw: Mapping[str, Sequence[Any]]) -> Head:
    """A head as `write_head` made it; else raises KeyError, TypeError or ValueError."""
    return Head(
        tuple(float(value) for value in raw["weights"]),
        tuple(float(value) for value in raw["offsets"]),
    )


def write_head(head: Head) -> dict[str, list[float]]:
    """A head as JSON values."""
    return {
        "weights": [round(value, 5) for value in head.weights],
        "offsets": [round(value, 5) for value in head.offsets],
    }
