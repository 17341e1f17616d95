"""The front of quality and cost, and its pictures."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from chunkwise.errors import ConfigError
from chunkwise.tuning.pareto import Point, front, scatter


def test_the_front_is_what_nothing_beats() -> None:
    chance = random.Random(0)
    for _ in range(50):
        points = [Point(chance.randrange(6), chance.randrange(6)) for _ in range(9)]
        best = {
            i
            for i, one in enumerate(points)
            if not any(
                other.cost <= one.cost and other.quality >= one.quality and other != one
                for other in points
            )
        }
        found = front(points)
        assert set(found) == best
        assert all(points[i].cost <= points[j].cost for i, j in itertools.pairwise(found))


def test_points_stand_where_they_belong() -> None:
    lines = scatter([Point(0, 1), Point(10, 0), Point(10, 0), Point(5, 0.5)], width=11, height=5)
    assert lines[0].endswith("|1          ")
    assert lines[2].endswith("|     4     ")
    assert lines[4].endswith("|          +")
    assert lines[-1].split() == ["0", "10"]


@pytest.mark.parametrize("points", [[], [Point(3, 0.5)], [Point(3, 0.5)] * 80])
def test_no_width_is_no_trouble(points: list[Point]) -> None:
    lines = scatter(points)
    assert bool(lines) == bool(points)


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    from PIL import Image

    from chunkwise.tuning.plots import draw_pareto

    points = [Point(i % 7, i % 5) for i in range(70)]
    labels = [f"size={i} " * (1 + i % 20) for i in range(70)]
    names = {"quality": "recall", "cost": "chunks", "chosen": 3}
    draw_pareto(points, labels, tmp_path / "p.png", **names)  # type: ignore[arg-type]
    with Image.open(tmp_path / "p.png") as image:
        assert {colour for _, colour in image.getcolors(100_000)} >= {(214, 39, 40)}
    with pytest.raises(ConfigError, match="cannot be written"):
        draw_pareto(points[:1], ["x"], tmp_path / "no" / "p.png", quality="q", cost="c", chosen=0)
