"""Decoding: thresholding without limits; limits kept for any log-odds; the best tiling."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import ConfigError
from chunkwise.rag.sentences.decoding import Limits, sentences
from chunkwise.types import BoundaryOdds

VALUES = st.floats(-8, 8, allow_nan=False) | st.just(-math.inf)
TOKENS = st.lists(st.tuples(st.integers(1, 16), st.integers(0, 3), VALUES), max_size=60)


def odds_of(tokens: list[tuple[int, int, float]]) -> BoundaryOdds:
    lengths, gaps, values = (np.array(column) for column in zip(*tokens, strict=True))
    ends = np.cumsum(lengths + gaps) - gaps
    return BoundaryOdds(ends - lengths, ends, values.astype(np.float64))


def lengths(odds: BoundaryOdds, ranges: list[tuple[int, int]]) -> list[int]:
    return [int(odds.ends[j - 1] - odds.starts[i]) for i, j in ranges]


@settings(deadline=None)
@given(TOKENS.filter(bool))
def test_without_limits_it_is_thresholding(tokens: list[tuple[int, int, float]]) -> None:
    odds = odds_of(tokens)
    n = len(tokens)
    ends = [j for _, j in sentences(odds, Limits(1, 100_000))]
    assert ends == sorted({*(np.flatnonzero(odds.values > 0) + 1).tolist(), n})


@settings(deadline=None)
@given(TOKENS.filter(bool), st.integers(64, 120), st.integers(1, 32))
def test_limits_are_kept_and_ranges_tile(
    tokens: list[tuple[int, int, float]], high: int, low: int
) -> None:
    odds = odds_of(tokens)
    found = list(sentences(odds, Limits(low, high)))
    assert [i for i, _ in found] == [0, *(j for _, j in found[:-1])]
    assert found[-1][1] == len(tokens)
    assert max(lengths(odds, found)) <= high


def test_short_sentences_are_joined_where_that_is_likeliest() -> None:
    odds = odds_of([(10, 1, 5.0), (10, 1, 1.0), (10, 1, 5.0), (10, 1, 5.0)])
    assert list(sentences(odds, Limits(1, 64))) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert list(sentences(odds, Limits(12, 64))) == [(0, 1), (1, 3), (3, 4)] or lengths(
        odds, list(sentences(odds, Limits(12, 64)))
    ) == [21, 21]


def test_a_long_sentence_is_cut_at_its_likeliest_place() -> None:
    tokens = [(9, 1, -5.0)] * 12
    tokens[5] = (9, 1, -1.0)
    assert list(sentences(odds_of(tokens), Limits(1, 80))) == [(0, 6), (6, 12)]


def test_the_best_tiling_is_found() -> None:
    chance = np.random.default_rng(0)
    for _ in range(20):
        tokens = [(10, 2, float(value)) for value in chance.normal(-2, 2, 9)]
        odds, limits = odds_of(tokens), Limits(20, 64)
        found = list(sentences(odds, limits))
        assert (
            _worth(odds, found)
            >= max(
                _worth(odds, ranges)
                for ranges in _tilings(9)
                if all(20 <= length <= 64 for length in lengths(odds, ranges))
            )
            - 1e-9
        )


def test_what_needs_more_text_waits() -> None:
    tokens = [(9, 1, -5.0)] * 10
    assert not list(sentences(odds_of(tokens), Limits(1, 80), is_last=False))
    tokens[3] = (9, 1, 5.0)
    assert list(sentences(odds_of(tokens), Limits(1, 80), is_last=False)) == [(0, 4)]


@pytest.mark.parametrize(("low", "high"), [(0, 100), (60, 100), (1, 63)])
def test_limits_that_cannot_be_kept_are_refused(low: int, high: int) -> None:
    with pytest.raises(ConfigError, match="_chars` must be"):
        Limits(low, high)


def _worth(odds: BoundaryOdds, ranges: list[tuple[int, int]]) -> float:
    return sum(float(odds.values[j - 1]) for _, j in ranges[:-1])


def _tilings(n: int) -> list[list[tuple[int, int]]]:
    found = []
    for cuts in itertools.chain.from_iterable(
        itertools.combinations(range(1, n), k) for k in range(n)
    ):
        edges = [0, *cuts, n]
        found.append(list(itertools.pairwise(edges)))
    return found
