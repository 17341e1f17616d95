"""How well found boundaries of a text agree with the gold ones: F1, Pk and WindowDiff.

Source: Pk (Beeferman, Berger and Lafferty, 1999), WindowDiff (Pevzner and Hearst, 2002); boundary
    F1 as in WtP (arXiv 2305.18893) and SaT (arXiv 2406.16678): ends of sentences are compared, and
    the end of the text, which anyone finds, is left out.
Differs: the units of all measures are the characters that are not blank, so blanks around a
    boundary do not count. Sums over texts are divided, not averages averaged: a long text weighs
    more. A window is half the mean gold segment, halves rounded up, where implementations differ.
Exact when: Pk and WindowDiff equal those of NLTK for the same window.
Cost: O(length).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.evaluation.bootstrap import Floats, ratio


class BoundaryCounts(NamedTuple):
    """What is counted in one text; sums over texts give the measures.

    Attributes:
        shared: Boundaries that are both found and gold.
        found: Boundaries found.
        gold: Gold boundaries.
        pk_errors: Windows in which only one of both has a boundary.
        windowdiff_errors: Windows in which both have not the same number of boundaries.
        windows: How many windows there are.
    """

    shared: int
    found: int
    gold: int
    pk_errors: int
    windowdiff_errors: int
    windows: int


def count_boundaries(text: str, gold: Iterable[int], found: Iterable[int]) -> BoundaryCounts:
    """Compare found with gold ends of sentences.

    Args:
        text: The text.
        gold: Character offsets one past the end of each sentence; blanks before an end, the end of
            the text and repeated ends do not count.
        found: The same of what was found.
    """
    wanted, length = boundaries(text, gold)
    had, _ = boundaries(text, found)
    return count_units(wanted, had, length)


def count_units(gold: set[int], found: set[int], length: int) -> BoundaryCounts:
    """Compare found with gold boundaries of any units.

    Args:
        gold: Boundaries as the number of units before them, in `[1, length)`.
        found: The same of what was found.
        length: Units of the text.
    """
    pk_errors, windowdiff_errors, windows = _window_errors(
        gold, found, length, window_size(length, len(gold) + 1)
    )
    return BoundaryCounts(
        len(gold & found), len(found), len(gold), pk_errors, windowdiff_errors, windows
    )


def boundaries(text: str, ends: Iterable[int]) -> tuple[set[int], int]:
    """Ends as numbers of characters before them that are not blank, and how many there are.

    Both edges of the text are left out.
    """
    before = np.cumsum([0, *(not character.isspace() for character in text)])
    length = int(before[-1])
    return {int(before[end]) for end in ends} - {0, length}, length


def pk(
    gold: Collection[int], found: Collection[int], length: int, *, k: int | None = None
) -> float:
    """Share of the pairs of units `k` apart of which gold and found disagree whether they are in
    one segment; in [0, 1], lower is better.

    Args:
        gold: Boundaries as the number of units before them, in `[1, length)`.
        found: The same of what was found.
        length: Units of the text; below 2 there is nothing to be wrong about.
        k: Distance in `[1, length)`; None: `window_size`.
    """
    errors, _, windows = _checked_errors(gold, found, length, k)
    return errors / windows if windows else 0.0


def windowdiff(
    gold: Collection[int], found: Collection[int], length: int, *, k: int | None = None
) -> float:
    """Share of the pairs of units `k` apart between which gold and found have not the same number
    of boundaries; in [0, 1], lower is better, never below `pk`. Arguments as of `pk`."""
    _, errors, windows = _checked_errors(gold, found, length, k)
    return errors / windows if windows else 0.0


def window_size(length: int, num_segments: int) -> int:
    """Half the mean length of a segment, halves rounded up, in `[1, max(length - 1, 1)]`."""
    half = (length + num_segments) // (2 * num_segments)
    return max(1, min(half, length - 1))


def measures(totals: Floats) -> dict[str, Floats]:
    """Measures of sums of `BoundaryCounts`, `(num_draws, 6)`, as `(num_draws,)` each.

    `precision`, `recall` and `f1` are 0 where nothing is right, and NaN where there is nothing to
    find and nothing was found; `pk` and `windowdiff` are NaN where there is no window.
    """
    shared, found, gold, pk_errors, windowdiff_errors, windows = totals.T
    return {
        "precision": ratio(shared, np.where(found > 0, found, gold)),
        "recall": ratio(shared, np.where(gold > 0, gold, found)),
        "f1": ratio(2 * shared, found + gold),
        "pk": ratio(pk_errors, windows),
        "windowdiff": ratio(windowdiff_errors, windows),
    }


def _checked_errors(
    gold: Collection[int], found: Collection[int], length: int, k: int | None
) -> tuple[int, int, int]:
    for place in (*gold, *found):
        if not 0 < place < length:
            raise ConfigError(f"A boundary must be in [1, length={length}), got {place!r}.")
    if k is None:
        k = window_size(length, len(set(gold)) + 1)
    elif not 0 < k < length:
        raise ConfigError(f"`k` must be in [1, length={length}), got {k!r}.")
    return _window_errors(gold, found, length, k)


def _window_errors(
    gold: Collection[int], found: Collection[int], length: int, k: int
) -> tuple[int, int, int]:
    """Errors of Pk and of WindowDiff, and the number of windows."""
    if length < 2:
        return 0, 0, 0
    wanted, had = _inside(gold, length, k), _inside(found, length, k)
    pk_errors = int(((wanted > 0) != (had > 0)).sum())
    return pk_errors, int((wanted != had).sum()), length - k


def _inside(places: Collection[int], length: int, k: int) -> NDArray[np.int64]:
    """Boundaries between the units `i` and `i + k`, for each `i`: `(length - k,)`."""
    marks = np.zeros(length, dtype=np.int64)
    marks[list(places)] = 1
    before = np.cumsum(marks)
    return before[k:] - before[: length - k]
