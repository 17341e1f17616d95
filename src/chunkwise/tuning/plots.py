"""The Pareto plot as a PNG, drawn with Pillow."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from chunkwise.errors import ConfigError, MissingDependencyError
from chunkwise.tuning.pareto import Point, axis, front, mark

try:
    from PIL import Image, ImageDraw, ImageFont
except ImportError as exc:
    raise MissingDependencyError(
        'The plot as a picture needs Pillow: `pip install "chunkwise[train]"`; the terminal shows '
        "it without."
    ) from exc

_WIDTH, _HEIGHT = 1200, 600  # pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 430, 40, 50
_RADIUS, _LINE = 5, 16
_FRONT, _OTHER, _CHOSEN = "#1f77b4", "#888888", "#d62728"
_MOST_LABELS, _MOST_LETTERS = 32, 62


def draw_pareto(
    points: Sequence[Point],
    labels: Sequence[str],
    path: Path,
    *,
    quality: str,
    cost: str,
    chosen: int,
    shown: Callable[[float], str] = str,
) -> None:
    """Write the plot: the front as a line, the chosen point in red, labels beside it.

    Args:
        points: All configurations; the marks of those at one place stand together.
        labels: One each.
        path: The PNG; overwritten.
        quality: Name of the measure, upwards.
        cost: Name of the cost, to the right.
        chosen: Place of the one that is recommended.
        shown: Writes a cost.

    Raises:
        ConfigError: It cannot be written.
    """
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    drawing = ImageDraw.Draw(image)
    placed, best = _axes(drawing, points, quality, cost, shown), front(points)
    colours = [
        _CHOSEN if i == chosen else _FRONT if i in best else _OTHER for i in range(len(points))
    ]
    for one, other in itertools.pairwise(best):
        drawing.line([placed[one], placed[other]], fill=_FRONT, width=2)
    together: dict[tuple[float, float], list[int]] = {}
    for place, at in enumerate(placed):
        together.setdefault(at, []).append(place)
    font = ImageFont.load_default(12)
    for (x, y), places in together.items():
        colour = min((colours[i] for i in places), key=(_CHOSEN, _FRONT, _OTHER).index)
        drawing.ellipse((x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS), fill=colour)
        drawing.text((x + 7, y - 14), "".join(map(mark, places)), fill=colour, font=font)
    _legend(drawing, labels, colours)
    try:
        image.save(path, format="PNG")
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be written: {exc.strerror or exc}.") from exc


def _legend(drawing: ImageDraw.ImageDraw, labels: Sequence[str], colours: Sequence[str]) -> None:
    font = ImageFont.load_default(12)
    for place, label in enumerate(labels[:_MOST_LABELS]):
        at = (_WIDTH - _RIGHT + 16, _TOP + place * _LINE)
        short = label if len(label) <= _MOST_LETTERS else f"{label[: _MOST_LETTERS - 3]}..."
        drawing.text(at, f"{mark(place)}  {short}", fill=colours[place], font=font)


def _axes(
    drawing: ImageDraw.ImageDraw,
    points: Sequence[Point],
    quality: str,
    cost: str,
    shown: Callable[[float], str],
) -> list[tuple[float, float]]:
    """Draw the frame; gives where each point falls."""
    left, top, right, bottom = _LEFT, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    font = ImageFont.load_default(13)
    drawing.rectangle((left, top, right, bottom), outline="#888888")
    cheap, dear = _range([point.cost for point in points])
    low, high = _range([point.quality for point in points])
    drawing.text((left, 14), quality, fill="black", font=font)
    drawing.text(((left + right) / 2, bottom + 26), cost, fill="black", font=font)
    for value, y in ((high, top), (low, bottom - 14)):
        drawing.text((8, y), f"{value:.3f}", fill="black", font=font)
    for value, x in ((cheap, left), (dear, right - 70)):
        drawing.text((x, bottom + 6), shown(value), fill="black", font=font)
    return [
        (
            left + (point.cost - cheap) / (dear - cheap) * (right - left),
            bottom - (point.quality - low) / (high - low) * (bottom - top),
        )
        for point in points
    ]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis, with some room beyond the outermost values."""
    low, high = axis(values)
    room = (high - low) * 0.08
    return low - room, high + room
