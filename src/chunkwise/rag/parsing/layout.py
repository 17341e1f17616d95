"""Reading order of a page: words to segments, segments to columns, columns to lines.

Method: a segment is a run of words that the page draws one after another on one baseline.
A gutter is a vertical strip that few segments cross; those that cross it cut the page into
zones, and a zone with columns on both sides of the gutter is read side by side. This is an
XY-cut (Nagy and Seth 1984) with two differences: a strip need not be empty all the way
down, so that full-width headings may stand between columns, and the order in which the
page draws its text decides between columns and the cells of a table.
"""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chunkwise.rag.parsing.geometry import Cell, Line, Style, Word

_MAX_DEPTH = 8
_RTL = re.compile("[\u0590-\u08ff\ufb1d-\ufefc]")
_CELL_GAP = 1.1


@dataclass(slots=True)
class Segment:
    """Words drawn one after another on one baseline, without a wide gap."""

    words: list[Word]
    x0: float
    x1: float
    base: float
    size: float

    @property
    def top(self) -> float:
        """Upper edge of its letters."""
        return self.base - 0.7 * self.size

    @property
    def order(self) -> int:
        """Rank of its first word in drawing order."""
        return self.words[0].order


def lines(words: Sequence[Word], page: int) -> list[Line]:
    """The lines of a page in reading order; upright text comes first.

    Args:
        words: The words of the page in drawing order.
        page: Page, from 1.
    """
    found: list[Line] = []
    region = 0
    for turn in _turns(words):
        group = [word for word in words if word.turn == turn]
        for segments in _order(_segments(group), 0):
            found += (_line(row, page, region) for row in _rows(segments))
            region += 1
    return found


def is_rtl(text: str) -> bool:
    """Whether most letters of a text are Hebrew, Arabic or of a related script."""
    rtl = len(_RTL.findall(text))
    return rtl > 0 and rtl * 2 > sum(c.isalpha() for c in text)


def _turns(words: Sequence[Word]) -> list[int]:
    """Directions of text, the most frequent one first."""
    counts = [0] * 4
    for word in words:
        counts[word.turn] += len(word.text)
    return sorted((t for t in range(4) if counts[t]), key=lambda t: (-counts[t], t))


def _segments(words: Iterable[Word]) -> list[Segment]:
    segments: list[Segment] = []
    for word in words:
        last = segments[-1] if segments else None
        if last is not None and _continues(last, word):
            last.words.append(word)
            last.x0, last.x1 = min(last.x0, word.x0), max(last.x1, word.x1)
            if word.size > last.size:
                last.base, last.size = word.base, word.size
        else:
            segments.append(Segment([word], word.x0, word.x1, word.base, word.size))
    return segments


def _continues(segment: Segment, word: Word) -> bool:
    size = max(segment.size, word.size)
    previous = segment.words[-1]
    gap = max(word.x0 - previous.x1, previous.x0 - word.x1)
    return abs(word.base - segment.base) < 0.5 * size and -2 * size < gap < size


def _order(segments: list[Segment], depth: int) -> list[list[Segment]]:
    """Regions in reading order; a region is read line by line."""
    if depth >= _MAX_DEPTH or len(segments) < 4:
        return [segments]
    best: list[_Zone] = []
    for gutter in _gutters(segments):
        zones = _zones(segments, gutter)
        if _in_columns(zones) > _in_columns(best):
            best = zones
    if not best:
        return [segments]
    regions: list[list[Segment]] = []
    for zone in best:
        for part in zone.parts():
            regions += _order(part, depth + 1)
    return regions


@dataclass(slots=True)
class _Zone:
    """A horizontal band of a page: columns on both sides of a gutter, or one piece."""

    left: list[Segment]
    right: list[Segment]
    columns: bool

    def parts(self) -> list[list[Segment]]:
        if not self.columns:
            return [self.left + self.right]
        pair = [self.left, self.right]
        text = "".join(word.text for side in pair for s in side for word in s.words)
        return pair[::-1] if is_rtl(text) else pair


def _in_columns(zones: list[_Zone]) -> int:
    return sum(len(zone.left) + len(zone.right) for zone in zones if zone.columns)


def _gutters(segments: list[Segment]) -> list[tuple[float, float]]:
    """Strips that fewer segments cross than the most crossed place, the clearest first."""
    left = min(s.x0 for s in segments)
    width = int(max(s.x1 for s in segments) - left) + 2
    change = [0] * (width + 2)
    for s in segments:
        change[int(s.x0 - left)] += 1
        change[int(s.x1 - left) + 1] -= 1
    cover, now = [], 0
    for step in change:
        now += step
        cover.append(now)
    found = []
    for start, end in _runs(cover, 0.75 * max(cover)):
        low = min(cover[start:end]) + 0.1 * max(cover)
        a, b = max(_runs(cover, low, start, end), key=lambda run: run[1] - run[0])
        if b - a >= 0.5 * statistics.median(s.size for s in segments):
            found.append((low, a - b, left + a, left + b))
    return [(a, b) for _, _, a, b in sorted(found)[:8]]


def _runs(cover: list[int], limit: float, start: int = 0, end: int = 0) -> list[tuple[int, int]]:
    """Maximal ranges of places with at most `limit` segments, none at the outer edges."""
    end = end or len(cover)
    runs, begin = [], -1
    for i in range(start, end + 1):
        low = i < end and cover[i] <= limit
        if low and begin < 0:
            begin = i
        elif not low and begin >= 0:
            runs.append((begin, i))
            begin = -1
    return runs


def _zones(segments: list[Segment], gutter: tuple[float, float]) -> list[_Zone]:
    """Cut where segments cross the gutter; what stands beside such a segment goes with it."""
    crossing = [s for s in segments if _crosses(s, gutter)]
    bands = _bands(crossing)
    zones: list[_Zone] = []
    kind = -1
    for s in sorted(segments, key=lambda s: s.base):
        wide = int(_covered(s, bands))
        if wide != kind:
            zones.append(_Zone([], [], False))
            kind = wide
        centre = (s.x0 + s.x1) / 2
        (zones[-1].left if centre < gutter[1] else zones[-1].right).append(s)
        if not wide:
            zones[-1].columns = True
    for zone in zones:
        zone.columns = zone.columns and _are_columns(zone)
    return _joined(zones)


def _crosses(segment: Segment, gutter: tuple[float, float]) -> bool:
    """Whether it reaches over the gutter, or stands in it."""
    over = segment.x0 < gutter[0] and segment.x1 > gutter[1]
    return over or (segment.x0 > gutter[0] - 1 and segment.x1 < gutter[1] + 1)


def _bands(segments: Iterable[Segment]) -> list[tuple[float, float]]:
    bands: list[tuple[float, float]] = []
    for s in sorted(segments, key=lambda s: s.top):
        if bands and s.top <= bands[-1][1]:
            bands[-1] = (bands[-1][0], max(bands[-1][1], s.base))
        else:
            bands.append((s.top, s.base))
    return bands


def _covered(segment: Segment, bands: list[tuple[float, float]]) -> bool:
    height = segment.base - segment.top
    return any(
        min(segment.base, low) - max(segment.top, high) > 0.5 * height for high, low in bands
    )


def _joined(zones: list[_Zone]) -> list[_Zone]:
    """Neighbouring zones without columns become one."""
    joined: list[_Zone] = []
    for zone in zones:
        if joined and not zone.columns and not joined[-1].columns:
            joined[-1].left += zone.left
            joined[-1].right += zone.right
        else:
            joined.append(zone)
    return joined


def _are_columns(zone: _Zone) -> bool:
    """Columns are drawn one after the other, or hold prose on both sides; cells do not."""
    rows = min(_row_count(zone.left), _row_count(zone.right))
    if rows < 2:
        return False
    sides = [(s.order, side) for side, part in enumerate((zone.left, zone.right)) for s in part]
    sides.sort()
    switches = sum(a[1] != b[1] for a, b in itertools.pairwise(sides))
    if _is_prose(zone.left) and _is_prose(zone.right):
        return rows >= 4 or switches <= 1
    wordy = all(_words_a_row(part) >= 2 for part in (zone.left, zone.right))
    return wordy and switches <= max(1, 0.25 * rows)


def _row_count(segments: list[Segment]) -> int:
    return len({round(s.base / max(s.size, 4)) for s in segments})


def _words_a_row(segments: list[Segment]) -> float:
    return sum(len(s.words) for s in segments) / max(_row_count(segments), 1)


def _is_prose(segments: list[Segment]) -> bool:
    """Most segments fill the width of their side, and hold several words."""
    width = max(s.x1 for s in segments) - min(s.x0 for s in segments)
    fill = statistics.median((s.x1 - s.x0) / max(width, 1) for s in segments)
    return fill > 0.7 and statistics.median(len(s.words) for s in segments) >= 4


def _rows(segments: list[Segment]) -> list[list[Segment]]:
    """Segments on one baseline each, small ones (indices, marks) with the line they touch."""
    rows: list[list[Segment]] = []
    for s in sorted(segments, key=lambda s: (s.base, s.x0)):
        home = max(rows[-3:], key=lambda row: _overlap(row, s), default=None)
        if home is not None and _overlap(home, s) >= 0.4:
            home.append(s)
        else:
            rows.append([s])
    return sorted(rows, key=lambda row: max(row, key=lambda s: (s.size, s.x1 - s.x0)).base)


def _overlap(row: list[Segment], segment: Segment) -> float:
    """Share of the lower one of a row's main segment and `segment` that they have in common."""
    main = max(row, key=lambda s: (s.size, s.x1 - s.x0))
    shared = min(main.base, segment.base) - max(main.top, segment.top)
    return shared / (0.7 * min(main.size, segment.size))


def _line(row: list[Segment], page: int, region: int) -> Line:
    rtl = is_rtl("".join(word.text for s in row for word in s.words))
    row.sort(key=lambda s: -s.x1 if rtl else s.x0)
    if not rtl and any(a.x1 > b.x1 for a, b in itertools.pairwise(row)):
        row = _segments(sorted((w for s in row for w in s.words), key=lambda w: w.x0))
    words = [word for s in row for word in s.words]
    main = _main(words)
    cells = _cells(row, rtl)
    return Line(
        page,
        region,
        " ".join(cell.text for cell in cells),
        min(w.x0 for w in words),
        max(w.x1 for w in words),
        main.base,
        main.size,
        main.style,
        main.turn,
        tuple(cells),
        words[-1].text.endswith(("-", "\u00ad")),
        rtl,
        words[0].x1 - words[0].x0,
    )


def _main(words: list[Word]) -> Word:
    """A word of the size and style that most characters have."""
    counts: dict[tuple[float, Style], int] = {}
    for word in words:
        key = (round(word.size, 1), word.style)
        counts[key] = counts.get(key, 0) + len(word.text)
    best = max(counts, key=lambda key: counts[key])
    return next(word for word in words if (round(word.size, 1), word.style) == best)


def _cells(row: list[Segment], rtl: bool) -> list[Cell]:
    cells: list[Cell] = []
    for i, s in enumerate(row):
        text = _text(s.words)
        if cells:
            last = cells[-1]
            gap = last.x0 - s.x1 if rtl else s.x0 - last.x1
            if gap < _CELL_GAP * s.size:
                drawn_next = s.words[0].order == row[i - 1].words[-1].order + 1
                spaced = s.words[0].spaced and drawn_next
                space = " " if gap > 0.12 * s.size or spaced else ""
                joined = last.text + space + text
                cells[-1] = Cell(min(last.x0, s.x0), max(last.x1, s.x1), joined)
                continue
        cells.append(Cell(s.x0, s.x1, text))
    return cells


def _text(words: list[Word]) -> str:
    parts = [words[0].text]
    for before, word in itertools.pairwise(words):
        gap = max(word.x0 - before.x1, before.x0 - word.x1)
        drawn_next = word.order == before.order + 1
        parts.append(" " if (word.spaced and drawn_next) or gap > 0.2 * word.size else "")
        parts.append(word.text)
    return "".join(parts)
