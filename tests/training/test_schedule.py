"""Learning rates worked out by hand."""

import pytest

from chunkwise.errors import ConfigError
from chunkwise.training.base import Plan
from chunkwise.training.schedule import learning_rate


def rates(plan: Plan) -> list[float]:
    return [learning_rate(plan, step) for step in range(plan.steps)]


def test_warm_up_then_half_a_cosine_to_the_floor() -> None:
    plan = Plan(6, 1.0, warmup_ratio=1 / 3, floor_ratio=0.2)
    # Two equal rises; then 0.2 + 0.8 * (1 + cos(pi * k / 4)) / 2 for k = 1 to 4.
    expected = [0.5, 1.0, 0.88284271, 0.6, 0.31715729, 0.2]
    assert rates(plan) == pytest.approx(expected)


def test_without_warm_up_and_floor_it_falls_to_zero() -> None:
    assert rates(Plan(2, 0.4, warmup_ratio=0.0, floor_ratio=0.0)) == pytest.approx([0.2, 0.0])


def test_continued_training_is_warmed_again_from_where_it_ended() -> None:
    plan = Plan(4, 2.0, warmup_ratio=0.5, floor_ratio=0.1, start_ratio=0.1)
    assert rates(plan)[:2] == pytest.approx([2.0 * 0.55, 2.0])
    before = Plan(4, 2.0, warmup_ratio=0.5, floor_ratio=0.1)
    assert rates(before)[-1] == pytest.approx(2.0 * plan.start_ratio)


def test_one_step_is_a_plan_too() -> None:
    assert rates(Plan(1, 1.0, warmup_ratio=0.9)) == [1.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"peak_lr": 0.0},
        {"warmup_ratio": 1.0},
        {"floor_ratio": -0.1},
        {"clip": 0.0},
        {"save_every": 0},
        {"weight_decay": -1.0},
    ],
)
def test_values_that_cannot_work_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Plan(**{"steps": 10, "peak_lr": 1e-3, **wrong})  # type: ignore[arg-type]
