"""Words and lines of a PDF page, and where they stand.

Coordinates are those of upright text, whatever way it runs on the page: `x` grows in
reading direction and `y` downwards, both in points. `Frame.box` turns them into the boxes
of a document.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from chunkwise.types import Box

ASCENT, DESCENT = 0.8, 0.25
"""Height above and depth below the baseline that a line is given, in font sizes."""


class Style(NamedTuple):
    """What a font looks like."""

    bold: bool = False
    italic: bool = False
    mono: bool = False


@dataclass(slots=True)
class Word:
    """Characters between white space.

    Attributes:
        text: Its characters, ligatures spelt out; a hyphen at a line's end is `-`.
        x0: Left edge.
        x1: Right edge.
        base: Baseline.
        size: Font size.
        style: Weight and pitch.
        turn: Quarter turns, anticlockwise, from upright text to this text.
        order: Rank in the order in which the page draws its text.
        spaced: White space stands before it.
    """

    text: str
    x0: float
    x1: float
    base: float
    size: float
    style: Style
    turn: int
    order: int
    spaced: bool


class Frame(NamedTuple):
    """The visible part of a page and how it is turned: from text coordinates to a box.

    Attributes:
        page: Page, from 1.
        left: Left edge in the page's own coordinates; so are the next three.
        bottom: Bottom edge.
        right: Right edge.
        top: Top edge.
        rotation: Quarter turns, clockwise, that a viewer applies.
    """

    page: int
    left: float
    bottom: float
    right: float
    top: float
    rotation: int

    @property
    def height(self) -> float:
        """Height as shown, in points."""
        return self.right - self.left if self.rotation % 2 else self.top - self.bottom

    def box(self, turn: int, x0: float, y0: float, x1: float, y1: float) -> Box:
        """The box, from the shown page's top left corner, of a rectangle of turned text."""
        corners = [self._shown(*turned(turn, x, y)) for x, y in ((x0, y0), (x1, y1))]
        (ax, ay), (bx, by) = corners
        edges = (min(ax, bx), min(ay, by), max(ax, bx), max(ay, by))
        return Box(self.page, *(round(v, 1) for v in edges))

    def _shown(self, x: float, y: float) -> tuple[float, float]:
        if self.rotation == 1:
            return y - self.bottom, x - self.left
        if self.rotation == 2:
            return self.right - x, y - self.bottom
        if self.rotation == 3:
            return self.top - y, self.right - x
        return x - self.left, self.top - y


def turned(turn: int, x: float, y: float) -> tuple[float, float]:
    """A point of the page (y up) in the coordinates of text turned by quarters, and back."""
    return ((x, -y), (y, x), (-x, y), (-y, -x))[turn]


class Cell(NamedTuple):
    """A part of a line with wide gaps on both sides."""

    x0: float
    x1: float
    text: str


@dataclass(slots=True)
class Line:
    """Words on one baseline of one region of a page.

    Attributes:
        page: Page, from 1.
        region: Rank of its region on the page.
        text: Its words, parted by single spaces where the page has space.
        x0: Left edge.
        x1: Right edge.
        base: Baseline.
        size: Font size of most of its characters.
        style: Weight and pitch of most of its characters.
        turn: Quarter turns, anticlockwise, from upright text.
        cells: Its parts, where wide gaps cut it; one or more.
        hyphenated: Its last word goes on in the next line, says the page.
        rtl: It reads from right to left.
        first_width: Width of its first word.
    """

    page: int
    region: int
    text: str
    x0: float
    x1: float
    base: float
    size: float
    style: Style
    turn: int
    cells: tuple[Cell, ...]
    hyphenated: bool
    rtl: bool
    first_width: float

    @property
    def top(self) -> float:
        """Upper edge."""
        return self.base - ASCENT * self.size

    @property
    def bottom(self) -> float:
        """Lower edge."""
        return self.base + DESCENT * self.size
