"""What may be said of differences that were looked for."""

from __future__ import annotations

import numpy as np
import pytest

from chunkwise.tuning.verdict import decide, estimate, gains_over


def noisy(seed: int, count: int, questions: int) -> dict[int, np.ndarray]:
    values = np.random.default_rng(seed).normal(0, 1, (count, questions))
    return dict(enumerate(values))


def test_an_interval_for_many_is_wider_than_one_for_one() -> None:
    values = noisy(0, 20, 80)
    alone = gains_over({0: values[0], 5: values[5]}, present=0)[5]
    together = gains_over(values, present=0)[5]
    assert together.value == pytest.approx(alone.value)
    assert together.low < alone.low
    assert together.high > alone.high


def test_all_intervals_hold_the_truth_together_in_most_cases() -> None:
    held = 0
    for seed in range(60):
        gains = gains_over(noisy(seed, 6, 60), present=0)
        held += all(each.low <= 0 <= each.high for each in gains.values())
    assert held >= 50


def test_one_that_was_asked_less_is_compared_on_what_both_were_asked() -> None:
    present = np.array([1.0, 1.0, 0.0, 0.0])
    assert estimate(np.array([1.0, 0.5]), present) == pytest.approx(0.25)
    gains = gains_over({0: present, 1: np.array([1.0, 0.5])}, present=0)
    assert gains[1].value == pytest.approx(-0.25)


def test_equal_rows_are_no_gain() -> None:
    rows = np.linspace(0, 1, 30)
    verdict = decide({0: rows, 1: rows.copy()}, [0, 1], present=0)
    assert verdict.leader == 0
    assert verdict.open_rivals == [1]
    assert verdict.gains[1] == (0, 0, 0)
    assert not verdict.is_clear


def test_whole_documents_are_drawn() -> None:
    chance = np.random.default_rng(0)
    by_document = np.repeat(chance.normal(0.3, 0.5, 12), 10)
    values = {0: np.zeros(120), 1: by_document}
    clusters = [str(i // 10) for i in range(120)]
    apart = gains_over(values, present=0)[1]
    together = gains_over(values, present=0, clusters=clusters)[1]
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_less_error_asks_for_more_evidence() -> None:
    values = noisy(1, 3, 100)
    once = decide(values, [0, 1, 2], present=0)
    often = decide(values, [0, 1, 2], present=0, error=0.01)
    assert often.gains[1].low < once.gains[1].low


@pytest.mark.parametrize("better", [0.1, -0.1])
def test_a_difference_without_spread_has_no_interval(better: float) -> None:
    rows = np.linspace(0, 1, 30)
    verdict = decide({0: rows, 1: rows + better, 2: rows + better / 2}, [0, 1, 2], present=0)
    assert np.isnan(verdict.gains[1].low)
    assert verdict.gains[1].value == pytest.approx(better)
    assert not verdict.is_gain
    assert not verdict.is_clear


def test_few_documents_prove_nothing() -> None:
    values = {0: np.zeros(40), 1: 1 + np.random.default_rng(0).random(40)}
    few, enough = ([str(i % count) for i in range(40)] for count in (9, 10))
    assert not decide(values, [0, 1], present=0, clusters=few).is_gain
    assert decide(values, [0, 1], present=0, clusters=enough).is_gain
