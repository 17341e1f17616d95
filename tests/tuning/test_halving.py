"""Successive halving on surfaces whose best configuration is planted, and on flat ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from chunkwise.errors import ConfigError
from chunkwise.tuning.halving import Deadline, OutOfTime, Race, Round, Row, plan, race, standing

FOREVER = 1e9


@dataclass
class Surface:
    """Answers of configurations to questions of different ease, with noise, and a clock."""

    gains: Sequence[float]
    questions: int
    seed: int
    seconds: float = 0.0
    asked: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        chance = np.random.default_rng(self.seed)
        ease = chance.normal(0.5, 0.3, self.questions)
        noise = chance.normal(0, 0.25, (len(self.gains), self.questions))
        self.values = ease + noise + np.array(self.gains)[:, None]

    def evaluate(self, configuration: int, cases: Sequence[int]) -> list[Row]:
        self.seconds += len(cases)
        self.asked += [(configuration, case) for case in cases]
        return [{"quality": float(self.values[configuration, case])} for case in cases]

    def race(self, seconds: float = FOREVER) -> Race[int]:
        return race(
            range(len(self.gains)),
            range(self.questions),
            self.evaluate,
            metric="quality",
            deadline=Deadline(seconds, lambda: self.seconds),
        )


@pytest.mark.parametrize("seed", range(5))
def test_the_planted_best_is_found_with_fewer_answers_than_the_grid(seed: int) -> None:
    best = 3 + 4 * seed
    gains = [0.2 if i == best else 0.04 * (i % 3) for i in range(24)]
    surface = Surface(gains, 200, seed)
    found = surface.race()
    assert found.verdict is not None
    assert found.verdict.leader == best
    assert found.verdict.is_gain
    assert found.is_over
    assert found.answers < 0.4 * 24 * 200
    assert len(set(surface.asked)) == len(surface.asked) == found.answers
    assert standing(found, "quality")[0] == best


def test_present_settings_that_are_best_are_proven_to_be_so() -> None:
    found = Surface([0.3, *[0.0] * 9], 200, 1).race()
    assert found.verdict is not None
    assert found.verdict.leader == 0
    assert found.verdict.is_clear
    assert not found.verdict.is_gain
    assert standing(found, "quality")[0] == 0


def test_the_present_settings_stand_where_their_score_puts_them() -> None:
    found = Surface([0.0, -0.5, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], 64, 0).race()
    assert standing(found, "quality")[0] == 8
    assert standing(found, "quality")[-2:] == [0, 1]


def test_a_clear_leader_ends_the_race_before_all_questions_are_asked() -> None:
    found = Surface([0.0, 1.5, 0.0, 0.1], 400, 2).race()
    assert found.is_over
    assert found.verdict is not None
    assert found.verdict.is_clear
    assert len(found.rows[1]) < 400


def test_two_that_are_equally_good_are_better_than_the_present_and_not_told_apart() -> None:
    found = Surface([0.0, 0.3, 0.3, 0.0, 0.0], 200, 4).race()
    assert found.verdict is not None
    assert found.verdict.is_gain
    assert not found.verdict.is_clear
    assert set(found.verdict.open_rivals) <= {1, 2}


@pytest.mark.parametrize(("configurations", "questions"), [(2, 60), (12, 64)])
def test_no_difference_is_proven_where_there_is_none(configurations: int, questions: int) -> None:
    """With a true rate of 5 %, more than 6 of 40 come by chance in 0.3 % of runs."""
    claims = 0
    for seed in range(40):
        verdict = Surface([0.0] * configurations, questions, seed).race().verdict
        assert verdict is not None
        claims += verdict.is_clear or verdict.is_gain
    assert claims <= 6


def test_a_naive_interval_would_claim_what_is_not_there() -> None:
    """Else the test above would hold for any rule: the best of many is far from the present."""
    claims = 0
    for seed in range(100):
        surface = Surface([0.0] * 24, 100, seed)
        best = max(range(24), key=lambda i: surface.values[i].mean())
        less = surface.values[best] - surface.values[0]
        claims += less.mean() > 1.96 * less.std() / 10
    assert claims >= 12


def test_the_time_is_kept_and_what_is_known_is_judged() -> None:
    surface = Surface([0.0, 0.5, *[0.0] * 10], 200, 0)
    found = surface.race(seconds=250)
    assert surface.seconds <= 250 + 16
    assert not found.is_over
    assert found.verdict is not None
    assert found.verdict.leader == 1


@pytest.mark.parametrize(("known", "is_judged"), [(2, False), (15, False), (16, True)])
def test_rows_that_were_finished_count_where_they_are_enough(known: int, is_judged: bool) -> None:
    surface = Surface([0.0, 0.1], 80, 0)

    def evaluate(configuration: int, cases: Sequence[int]) -> list[Row]:
        rows = surface.evaluate(configuration, cases)
        if configuration == 1:
            raise OutOfTime(rows[:known])
        return rows

    found = race([0, 1], range(80), evaluate, metric="quality", deadline=Deadline(FOREVER))
    assert len(found.rows[1]) == known
    assert not found.is_over
    assert (found.verdict is not None) == is_judged


def test_too_little_time_for_two_gives_no_verdict() -> None:
    found = Surface([0.0, 0.5, 0.1], 40, 0).race(seconds=1)
    assert found.verdict is None
    assert not found.is_over


@pytest.mark.parametrize("questions", [2, 5, 9])
def test_a_handful_of_questions_proves_nothing(questions: int) -> None:
    found = Surface([0.0, 9.0, 8.0], questions, 0).race()
    assert found.verdict is not None
    assert found.verdict.leader == 1
    assert not found.verdict.is_gain
    assert not found.verdict.is_clear


def test_same_seed_same_race() -> None:
    one, other = (Surface([0.0, 0.1, 0.05], 90, 3).race() for _ in range(2))
    assert one.verdict == other.verdict
    assert one.rows == other.rows


@pytest.mark.parametrize(("configurations", "questions"), [(1, 40), (0, 40), (5, 1), (5, 0)])
def test_nothing_to_compare_is_said(configurations: int, questions: int) -> None:
    with pytest.raises(ConfigError, match=r"nothing to compare|at least 2 questions"):
        Surface([0.0] * configurations, questions, 0).race()


@pytest.mark.parametrize(
    ("configurations", "questions", "rounds"),
    [
        (1, 100, [Round(25, 1), Round(50, 1), Round(100, 1)]),
        (23, 10, [Round(10, 23)]),
        (4, 1000, [Round(250, 4), Round(500, 3), Round(1000, 3)]),
        (23, 64, [Round(16, 23), Round(32, 12), Round(64, 6)]),
    ],
)
def test_rounds_double_the_questions_and_halve_the_configurations(
    configurations: int, questions: int, rounds: list[Round]
) -> None:
    assert plan(configurations, questions) == rounds
