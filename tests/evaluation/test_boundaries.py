"""Boundaries: worked values, those that NLTK documents, and a naive implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import ConfigError
from chunkwise.evaluation.boundaries import (
    BoundaryCounts,
    boundaries,
    count_boundaries,
    measures,
    pk,
    window_size,
    windowdiff,
)


def test_worked_windows() -> None:
    # Six units, gold cut after three: mean segment 3, window 2 (halves up). Pairs (0,2) (1,3) (2,4)
    # (3,5) have 0 1 1 0 gold boundaries between them; {2} has 1 1 0 0; {2, 3} has 1 2 1 0.
    assert window_size(6, 2) == 2
    assert pk({3}, {2}, 6) == windowdiff({3}, {2}, 6) == 2 / 4
    assert pk({3}, {2, 3}, 6) == 1 / 4
    assert windowdiff({3}, {2, 3}, 6) == 2 / 4
    assert pk({3}, set(), 6) == 2 / 4
    assert pk({3}, {3}, 6) == windowdiff({3}, {3}, 6) == 0


def slots(marks: str) -> set[int]:
    """Boundaries of a string in NLTK's notation: `1` after a unit."""
    return {place for place, mark in enumerate(marks, start=1) if mark == "1"}


def test_values_that_nltk_documents() -> None:
    one, two, three = (slots(s) for s in ("000100000010", "000010000100", "100000010000"))
    assert windowdiff(one, one, 13, k=3) == 0
    assert windowdiff(one, two, 13, k=3) == pytest.approx(0.30)
    assert windowdiff(two, three, 13, k=3) == pytest.approx(0.80)
    some, every, none = slots("0100" * 100), slots("1" * 400), slots("0" * 400)
    assert pk(some, every, 401, k=2) == pytest.approx(199 / 399)  # documented: 0.50
    assert pk(some, none, 401, k=2) == pytest.approx(200 / 399)  # documented: 0.50
    assert pk(some, some, 401, k=2) == 0


@pytest.mark.parametrize(
    ("length", "segments", "expected"),
    [(20, 2, 5), (20, 1, 10), (6, 2, 2), (10, 3, 2), (2, 1, 1), (3, 3, 1), (2, 2, 1), (1, 1, 1)],
)
def test_a_window_is_half_a_mean_segment(length: int, segments: int, expected: int) -> None:
    assert window_size(length, segments) == expected


def test_places_outside_and_windows_that_do_not_fit_are_refused() -> None:
    for place in (0, 6, -1):
        with pytest.raises(ConfigError, match=rf"\[1, length=6\), got {place}"):
            pk({place}, set(), 6)
        with pytest.raises(ConfigError, match=f"got {place}"):
            windowdiff({3}, {place}, 6)
    for k in (0, 6):
        with pytest.raises(ConfigError, match=rf"`k` must be in \[1, length=6\), got {k}"):
            pk({3}, {3}, 6, k=k)
    assert pk(set(), set(), 1) == windowdiff(set(), set(), 0) == 0


LENGTHS = st.integers(2, 40)


@st.composite
def segmentations(draw: st.DrawFn) -> tuple[int, set[int], set[int], int]:
    length = draw(LENGTHS)
    places = st.sets(st.integers(1, length - 1))
    return length, draw(places), draw(places), draw(st.integers(1, length - 1))


def naively(gold: set[int], found: set[int], length: int, k: int) -> tuple[float, float]:
    """By the number of the segment of each unit, pair by pair."""
    wanted = [sum(place <= unit for place in gold) for unit in range(length)]
    had = [sum(place <= unit for place in found) for unit in range(length)]
    pairs = [(i, i + k) for i in range(length - k)]
    apart = [(wanted[i] == wanted[j]) != (had[i] == had[j]) for i, j in pairs]
    counts = [wanted[j] - wanted[i] != had[j] - had[i] for i, j in pairs]
    return sum(apart) / len(pairs), sum(counts) / len(pairs)


@given(segmentations())
def test_pk_and_windowdiff_equal_a_naive_count(case: tuple[int, set[int], set[int], int]) -> None:
    length, gold, found, k = case
    expected = naively(gold, found, length, k)
    assert pk(gold, found, length, k=k) == pytest.approx(expected[0])
    assert windowdiff(gold, found, length, k=k) == pytest.approx(expected[1])
    assert 0 <= pk(gold, found, length) <= windowdiff(gold, found, length) <= 1
    assert pk(gold, gold, length) == windowdiff(gold, gold, length) == 0


def test_blanks_around_an_end_do_not_count() -> None:
    text = " One.  Two.\n\nThree. "
    assert boundaries(text, [5, 11, 19]) == ({4, 8}, 14)
    assert boundaries(text, [6, 7, 13, 20]) == ({4, 8}, 14)  # with the blanks, and the text's end
    assert boundaries("", [0]) == boundaries(" ", [0, 1]) == (set(), 0)


def test_worked_counts() -> None:
    text = "One. Two. Three. Four."
    # Gold after One. Two. Three.; found after One. and inside Three: 1 shared of 2 and 3. 19 units
    # in 4 segments: windows of 2 (19 / 8 = 2.4), 17 of them. Gold is at 4, 8, 14, found at 4, 11:
    # apart are the pairs around 8 (6-8, 7-9), 11 (9-11, 10-12) and 14 (12-14, 13-15).
    counts = count_boundaries(text, [4, 9, 16, 22], [4, 13, 22])
    assert counts == BoundaryCounts(1, 2, 3, 6, 6, 17)
    found = measures(np.array([counts], dtype=np.float64))
    expected = {
        "precision": 1 / 2,
        "recall": 1 / 3,
        "f1": 2 / 5,
        "pk": 6 / 17,
        "windowdiff": 6 / 17,
    }
    assert {name: float(value[0]) for name, value in found.items()} == pytest.approx(expected)


def one(counts: BoundaryCounts) -> dict[str, float]:
    return {k: float(v[0]) for k, v in measures(np.array([counts], dtype=np.float64)).items()}


TEXTS = st.text(alphabet="ab. \n中", min_size=1, max_size=40)


@given(TEXTS, st.data())
def test_bounds(text: str, data: st.DataObject) -> None:
    ends = st.lists(st.integers(0, len(text)), max_size=8)
    gold, found = data.draw(ends), data.draw(ends)
    places, _ = boundaries(text, gold)
    same, nothing = count_boundaries(text, gold, gold), count_boundaries(text, gold, [])
    assert same.pk_errors == same.windowdiff_errors == 0
    if places:
        assert [one(same)[name] for name in ("precision", "recall", "f1")] == [1, 1, 1]
        assert [one(nothing)[name] for name in ("precision", "recall", "f1")] == [0, 0, 0]
    else:
        assert math.isnan(one(same)["f1"])  # nothing to find, nothing found
    scores = one(count_boundaries(text, gold, found))
    assert all(math.isnan(value) or 0 <= value <= 1 for value in scores.values())
    backwards = one(count_boundaries(text, found, gold))
    assert scores["f1"] == pytest.approx(backwards["f1"], nan_ok=True)
    assert scores["precision"] == pytest.approx(backwards["recall"], nan_ok=True)
