"""Quality against cost: which configurations nothing beats in both, and a picture in characters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

_MARKS: Final = "123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SHARED: Final = "+"
_REST: Final = "."


class Point(NamedTuple):
    """What a configuration is worth, and what it costs."""

    cost: float
    quality: float


def front(points: Sequence[Point]) -> list[int]:
    """Places of the points that no other is at least as good and as cheap as, and better in one;
    cheapest first."""
    order = sorted(range(len(points)), key=lambda i: (points[i].cost, -points[i].quality, i))
    found: list[int] = []
    for i in order:
        last = points[found[-1]] if found else None
        if last is None or points[i].quality > last.quality or points[i] == last:
            found.append(i)
    return found


def mark(place: int) -> str:
    """The character that stands for the point at a place."""
    return _MARKS[place] if place < len(_MARKS) else _REST


def scatter(
    points: Sequence[Point],
    *,
    width: int = 60,
    height: int = 14,
    shown: Callable[[float], str] = str,
) -> list[str]:
    """Lines of text with each point's mark: quality upwards, cost to the right.

    Points that fall together show `+`. `shown` writes a cost.
    """
    if not points:
        return []
    low, high = axis([point.quality for point in points])
    cheap, dear = axis([point.cost for point in points])
    cells = [[" "] * width for _ in range(height)]
    for place, point in enumerate(points):
        x = round((point.cost - cheap) / (dear - cheap) * (width - 1))
        y = round((high - point.quality) / (high - low) * (height - 1))
        cells[y][x] = mark(place) if cells[y][x] == " " else _SHARED
    labels = [f"{high:.3f}", *[""] * (height - 2), f"{low:.3f}"]
    lines = [f"{label:>7} |{''.join(row)}" for label, row in zip(labels, cells, strict=True)]
    floor = f"{'':7} +{'-' * width}"
    left, right = shown(cheap), shown(dear)
    return [*lines, floor, f"{'':9}{left}{right:>{max(width - len(left), 0)}}"]


def axis(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis; with some room where all values are the same."""
    low, high = min(values), max(values)
    if high > low:
        return low, high
    room = max(abs(low) * 0.05, 1e-3)
    return low - room, high + room
