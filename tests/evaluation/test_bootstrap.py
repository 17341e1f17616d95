"""Intervals: as copies of rows give them, wider for documents, none where there is nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chunkwise.errors import ConfigError
from chunkwise.evaluation.bootstrap import (
    Floats,
    Interval,
    bootstrap,
    difference,
    paired_bootstrap,
    ratio,
    weighted_mean,
)


def test_it_tells_a_clear_difference_from_chance() -> None:
    noise = np.random.default_rng(1).normal(0, 1, 400)
    clear = paired_bootstrap(noise + 0.5)
    assert clear.is_clear
    assert clear.low < clear.value < clear.high
    assert clear.high - clear.low == pytest.approx(4 * 1 / np.sqrt(400), rel=0.2)
    assert not paired_bootstrap(noise - noise.mean()).is_clear
    assert paired_bootstrap(noise, seed=3) == paired_bootstrap(noise, seed=3)
    assert paired_bootstrap(noise, seed=3) != paired_bootstrap(noise, seed=4)


@pytest.mark.parametrize("num_rows", [2, 7, 300])
def test_it_equals_means_over_copies_of_rows(num_rows: int) -> None:
    values = np.random.default_rng(num_rows).normal(0, 1, num_rows)
    copies = values[np.random.default_rng(5).integers(0, num_rows, (1000, num_rows))].mean(1)
    found = paired_bootstrap(values, resamples=1000, seed=5)
    assert found == pytest.approx((values.mean(), *np.quantile(copies, [0.025, 0.975])))


def test_many_rows_and_draws_are_worked_on_in_blocks_that_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).normal(0, 1, 50)
    whole = paired_bootstrap(values, resamples=333)
    monkeypatch.setattr("chunkwise.evaluation.bootstrap._CELLS", 500)
    assert paired_bootstrap(values, resamples=333) == pytest.approx(whole)


def test_rows_of_one_document_are_no_independent_evidence() -> None:
    values = np.random.default_rng(2).normal(0, 1, 60)
    eightfold, documents = np.repeat(values, 8), np.repeat(np.arange(60), 8).tolist()
    alone, clustered = paired_bootstrap(values), paired_bootstrap(eightfold, clusters=documents)
    assert clustered == pytest.approx(alone)  # the same draws of the same documents
    naive = paired_bootstrap(eightfold)
    width = (alone.high - alone.low) / (naive.high - naive.low)
    assert width == pytest.approx(math.sqrt(8), rel=0.1)


def test_a_document_of_many_rows_weighs_more() -> None:
    # Draws of 2 documents: both (mean 0.75 = 3/4), the first twice (1), the second twice (0).
    found = paired_bootstrap(np.array([1.0, 1.0, 1.0, 0.0]), clusters=["a", "a", "a", "b"])
    assert found == (0.75, 0.0, 1.0)


def test_sums_are_divided_and_systems_meet_on_the_same_draws() -> None:
    tops, bottoms = np.array([1.0, 0.0, 3.0]), np.array([1.0, 2.0, 3.0])

    def share(drawn: Floats) -> dict[str, Floats]:
        return {"share": ratio(drawn @ tops, drawn @ bottoms), "own": weighted_mean(drawn, tops)}

    def better(drawn: Floats) -> dict[str, Floats]:
        return {"share": share(drawn)["share"] + 0.25}

    assert bootstrap(share, 3)["share"].value == pytest.approx(4 / 6)  # not (1 + 0 + 1) / 3
    assert bootstrap(difference(better, share), 3) == {
        "share": pytest.approx((0.25, 0.25, 0.25))  # whatever is drawn, and `own` is not shared
    }


def test_what_is_not_defined_is_left_out_of_the_interval() -> None:
    one_of_two = np.array([1.0, 0.0])

    def first(drawn: Floats) -> dict[str, Floats]:
        return {"x": ratio(drawn @ one_of_two, drawn @ one_of_two)}

    assert bootstrap(first, 2)["x"] == (1.0, 1.0, 1.0)

    def never(drawn: Floats) -> dict[str, Floats]:
        return {"x": np.full(len(drawn), np.nan)}

    assert all(math.isnan(value) for value in bootstrap(never, 2)["x"])


def test_one_row_or_one_document_has_no_interval() -> None:
    for found in (
        paired_bootstrap(np.array([0.5])),
        paired_bootstrap(np.array([0.0, 1.0]), clusters=["a", "a"]),
    ):
        assert found.value == 0.5
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        assert not found.is_clear


def test_an_interval_is_clear_when_zero_is_outside() -> None:
    assert Interval(1.0, 0.1, 2.0).is_clear
    assert Interval(-1.0, -2.0, -0.1).is_clear
    assert not Interval(1.0, 0.0, 2.0).is_clear


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ConfigError, match="0 rows"):
        paired_bootstrap(np.array([]))
    with pytest.raises(ConfigError, match="0 resamples"):
        paired_bootstrap(np.array([1.0]), resamples=0)
    with pytest.raises(ConfigError, match="1 clusters"):
        paired_bootstrap(np.array([1.0, 2.0]), clusters=["a"])
    with pytest.raises(ConfigError, match=r"shape \(2, 1\)"):
        paired_bootstrap(np.array([[1.0], [2.0]]))
