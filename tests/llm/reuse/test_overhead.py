"""Cache-Craft's formulas by hand, on three chunks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chunkwise.llm.kv.memory import Statistics
from chunkwise.llm.reuse import Passages, Run
from chunkwise.llm.reuse._overhead import (
    contextualisation,
    order_penalty,
    overheads,
    prefix_overlap,
    seen,
)
from chunkwise.llm.reuse.cache_craft import CacheCraft, focused

BEFORE = {"a": 3.0, "b": 1.0, "c": 4.0}
"""How much a fourth chunk attended to the three that stood before it."""


@pytest.mark.parametrize(
    ("now", "beta", "gamma"),
    [
        (["a", "b", "c"], 1.0, 0.0),
        (["c", "b", "a"], 1.0, 1.0),
        (["b", "a", "c"], 1.0, 1 / 3),
        (["b", "c", "a"], 1.0, 2 / 3),
        (["c", "a"], 7 / 8, 1.0),
        (["a", "d", "c"], 7 / 8, 0.0),
        (["b"], 1 / 8, 0.0),
        (["d"], 0.0, 0.0),
        ([], 0.0, 0.0),
    ],
)
def test_overlap_and_order(now: list[str], beta: float, gamma: float) -> None:
    assert prefix_overlap(BEFORE, now) == pytest.approx(beta)
    assert order_penalty(list(BEFORE), now) == pytest.approx(gamma)
    if set(now) <= set(BEFORE):
        assert seen(BEFORE, now, "all") == pytest.approx(beta * (1 - gamma))
        assert seen(BEFORE, now, "share") == pytest.approx(beta * (1 - gamma))


def test_new_chunks_count_for_all_or_for_their_share() -> None:
    now = ["c", "d", "a", "b"]  # two of three pairs are in the other order
    assert seen(BEFORE, now, "all") == 0.0
    assert seen(BEFORE, now, "share") == pytest.approx(1.0 * (1 - 2 / 3) * 3 / 4)


def test_a_chunk_that_was_computed_behind_nothing() -> None:
    for unseen in ("all", "share"):
        assert seen({}, [], unseen) == 1.0  # type: ignore[arg-type]
        assert seen({}, ["a"], unseen) == 0.0  # type: ignore[arg-type]


def test_contextualisation_of_a_matrix() -> None:
    """Three tokens behind two others; rows are tokens, columns the two and the three."""
    matrix = np.array([[0.5, 0.3, 0.2, 0, 0], [0.2, 0.2, 0.4, 0.2, 0], [0.1, 0.1, 0.3, 0.3, 0.2]])
    inter = matrix[:, :2].sum() / (3 * 2)  # 1.4 / 6
    intra = (0.4 + 0.3 + 0.3) / 3**2
    assert contextualisation(inter, intra) == pytest.approx(1 / (1 + math.exp(-2.1)))


def test_contextualisation_where_there_is_nothing_to_divide_by() -> None:
    assert contextualisation(0.0, 0.3) == 0.5
    assert contextualisation(0.3, 0.0) == 1.0
    assert contextualisation(0.0, 0.0) == 0.5
    assert contextualisation(1e3, 1e-300) == 1.0


def passages(first: int, anchor: int, shared: int) -> Passages:
    runs = (Run(first, first + 4), Run(first + 6, first + 10))
    noted = Statistics(np.array([0.1, 0.4, 0.3, 0.2], np.float32), 0.2, 0.2 / math.log(3))
    return Passages(runs, None, None, (noted, noted), anchor, shared)  # contextualisation 3/4


@pytest.mark.parametrize(
    ("first", "anchor", "shared", "of_all", "by_share"),
    [
        (5, 5, 5, [0, 1], [0, 1 / 2]),
        (7, 5, 5, [1, 1], [1 / 2, 2 / 3]),
        (5, 5, 4, [1, 1], [1 - 4 / 5 / 2, 1 - 4 / 5 / 3]),
        (5, 5, 0, [1, 1], [1, 1]),
        (0, 0, 0, [0, 1], [0, 1]),
        (3, 0, 0, [1, 1], [1, 1]),
    ],
)
def test_what_two_chunks_have_not_seen(
    first: int, anchor: int, shared: int, of_all: list[float], by_share: list[float]
) -> None:
    given = passages(first, anchor, shared)
    assert list(overheads(given, "all")) == pytest.approx([0.75 * x for x in of_all])
    assert list(overheads(given, "share")) == pytest.approx([0.75 * x for x in by_share])


def test_tokens_that_looked_outside_most_are_picked() -> None:
    given = passages(5, 5, 5)
    assert CacheCraft(alpha=0.5, gap=0).pick(given).tolist() == [12, 13]  # ceil(3/8 of 4)
    assert CacheCraft(alpha=1.0, gap=0).pick(given).tolist() == [12, 13, 14]
    assert CacheCraft(alpha=0.0, gap=0).pick(given).tolist() == []


@pytest.mark.parametrize(
    ("looked", "wanted"),
    [
        ([1.0, 5.0, 4.5, 1.2], [False, True, True, False]),
        ([1.0, 1.3, 1.2, 1.1], [True] * 4),
        ([2.0, 2.0], [True] * 2),
        ([0.0, 3.0], [False, True]),
        ([1.0], [True]),
        ([], []),
    ],
)
def test_chunks_above_the_widest_gap_are_focused(looked: list[float], wanted: list[bool]) -> None:
    assert focused(np.array(looked), 1.5).tolist() == wanted
