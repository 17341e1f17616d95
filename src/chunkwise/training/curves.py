"""The curves of a run as a PNG: losses, learning rate and figures over steps, drawn with Pillow."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chunkwise.errors import MissingDependencyError, TrainingError

try:
    from PIL import Image, ImageDraw, ImageFont
except ImportError as exc:
    raise MissingDependencyError(
        'The curves of a training run need Pillow: `pip install "chunkwise[train]"`.'
    ) from exc

_WIDTH, _HEIGHT = 900, 240  # of one panel, pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 34, 30
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b")
_SMOOTHED = 0.05  # share of the rows that a loss is averaged over
_NOT_DRAWN = {"step", "tokens", "elapsed_s", "tokens_per_s", "norm", "lr"}

Line = Sequence[tuple[float, float]]


def draw_curves(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write one panel each for losses, learning rate and, where there are some, figures.

    Args:
        rows: Rows of the log.
        path: The PNG; overwritten.

    Raises:
        TrainingError: It cannot be written.
    """
    panels = {title: lines for title, lines in _panels(rows).items() if any(lines.values())}
    image = Image.new("RGB", (_WIDTH, _HEIGHT * max(len(panels), 1)), "white")
    drawing = ImageDraw.Draw(image)
    for number, (title, lines) in enumerate(panels.items()):
        _panel(drawing, number * _HEIGHT, title, lines)
    try:
        image.save(path, format="PNG")
    except OSError as exc:
        raise TrainingError(f"{path}: cannot be written: {exc.strerror or exc}.") from exc


def _panels(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Line]]:
    steps = [row for row in rows if "lr" in row]
    measured = [row for row in rows if "figures" in row]
    losses = sorted({key for row in steps for key in row} - _NOT_DRAWN)
    names = sorted({key for row in measured for key in row["figures"]})
    return {
        "loss": {key: _smooth(_line(steps, key)) for key in losses},
        "learning rate": {"lr": _line(steps, "lr")},
        "held-out figures": {
            key: [(r["step"], r["figures"][key]) for r in measured if key in r["figures"]]
            for key in names
        },
    }


def _line(rows: Sequence[Mapping[str, Any]], key: str) -> Line:
    return [(row["step"], row[key]) for row in rows if key in row]


def _smooth(line: Line) -> Line:
    """Means over runs of neighbours, so that a noisy loss can be read."""
    size = max(1, round(len(line) * _SMOOTHED))
    sums = [0.0, *itertools.accumulate(y for _, y in line)]
    return [(x, (sums[i + 1] - sums[max(0, i + 1 - size)]) / min(size, i + 1))
            for i, (x, _) in enumerate(line)]  # fmt: skip


def _panel(drawing: ImageDraw.ImageDraw, top: int, title: str, lines: Mapping[str, Line]) -> None:
    font = ImageFont.load_default(12)
    points = [point for line in lines.values() for point in line]
    (x0, x1), (y0, y1) = _range([x for x, _ in points]), _range([y for _, y in points])
    box = (_LEFT, top + _TOP, _WIDTH - _RIGHT, top + _HEIGHT - _BOTTOM)
    drawing.rectangle(box, outline="#888888")
    drawing.text((_LEFT, top + 8), title, fill="black", font=font)
    for value, y in ((y1, box[1]), (y0, box[3])):
        drawing.text((4, y - 7), f"{value:.3g}", fill="black", font=font)
    for value, x in ((x0, box[0]), (x1, box[2] - 40)):
        drawing.text((x, box[3] + 6), f"{value:.0f}", fill="black", font=font)
    at = _LEFT + 120
    for colour, (name, line) in zip(itertools.cycle(_COLOURS), lines.items(), strict=False):
        drawing.text((at, top + 8), name, fill=colour, font=font)
        at += 14 + round(font.getlength(name))
        placed = [
            (
                box[0] + (x - x0) / (x1 - x0) * (box[2] - box[0]),
                box[3] - (y - y0) / (y1 - y0) * (box[3] - box[1]),
            )
            for x, y in line
        ]
        drawing.line(placed, fill=colour, width=2)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
