"""Tables without lines: rows of a page whose cells stand in aligned columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from chunkwise.rag.parsing.geometry import Cell, Line

_OPENS = re.compile(r"^[$€£¥(]+$")
_CLOSES = re.compile(r"^[)%]+$")
_LAST_SIGN = re.compile(r"^(.*\S) ([$€£¥])$")
_MARKER = re.compile(r"^(?:[•◦▪‣●○■□–·∙*➢✓-]|\(?\d{1,3}[.)]|\[\d{1,3}\]|\(?[a-zA-Z][.)])$")
_NUMERIC = re.compile(r"^[\s$€£¥(),.%—–+\-−\d]+$")


@dataclass(frozen=True, slots=True)
class Grid:
    """A table found in lines.

    Attributes:
        start: Index of its first line.
        end: One past its last line.
        rows: Text of its cells, all rows of one length.
        header_rows: How many rows, from the first, are header.
    """

    start: int
    end: int
    rows: tuple[tuple[str, ...], ...]
    header_rows: int


def grids(lines: Sequence[Line]) -> list[Grid]:
    """Tables among the lines of one region, in order; unsure ones are left out."""
    cells = [_merged(line) for line in lines]
    found: list[Grid] = []
    at = 0
    while at < len(lines):
        end = _run_end(lines, cells, at) if len(cells[at]) > 1 else at
        if end > at:
            start = _with_heads(lines, cells, at, found[-1].end if found else 0)
            found += _run_grids(lines, cells, start, end)
        at = max(end, at + 1)
    return found


def _run_grids(
    lines: Sequence[Line], cells: list[list[Cell]], start: int, end: int
) -> Iterator[Grid]:
    """One table, or where that is unsure the tables between its lines of one cell."""
    grid = _grid(lines, cells, start, end)
    if grid is not None:
        yield grid
        return
    singles = [i for i in range(start, end) if len(cells[i]) == 1]
    for a, b in pairwise([start - 1, *singles, end]) if singles else ():
        part = _grid(lines, cells, a + 1, b) if b > a + 1 else None
        if part is not None:
            yield part


def _merged(line: Line) -> list[Cell]:
    """Cells with currency signs, brackets and list markers put to the cell they belong to."""
    merged: list[Cell] = []
    for i, cell in enumerate(_split_signs(line.cells)):
        last = merged[-1] if merged else None
        opened = last is not None and _OPENS.match(last.text)
        marked = i == 1 and last is not None and _MARKER.match(last.text)
        if last is not None and (opened or marked or _CLOSES.match(cell.text)):
            text = last.text + (" " if marked else "") + cell.text
            merged[-1] = Cell(min(last.x0, cell.x0), max(last.x1, cell.x1), text)
        else:
            merged.append(cell)
    return merged


def _split_signs(cells: Sequence[Cell]) -> Iterator[Cell]:
    """Cells, with a currency sign at the end of one made a cell of its own."""
    for cell in cells:
        match = _LAST_SIGN.match(cell.text)
        if match is None:
            yield cell
        else:
            step = (cell.x1 - cell.x0) / len(cell.text)
            yield Cell(cell.x0, cell.x1 - 2 * step, match[1])
            yield Cell(cell.x1 - step, cell.x1, match[2])


def _run_end(lines: Sequence[Line], cells: list[list[Cell]], start: int) -> int:
    """One past the last row of several cells that belongs with row `start`."""
    end = start + 1
    left, right = lines[start].x0, lines[start].x1
    for i in range(start + 1, len(lines)):
        line = lines[i]
        left, right = min(left, line.x0), max(right, line.x1)
        if line.base - lines[i - 1].base > 3.2 * line.size or i - end > 2:
            break
        if len(cells[i]) > 1:
            end = i + 1
        elif _is_no_row(line, lines[start], right - left):
            break
    return end


def _is_no_row(line: Line, first: Line, width: float) -> bool:
    """Whether a line of one cell ends the table: a larger one, or a sentence across it."""
    sentence = len(line.text.split()) > 12 or line.text.endswith(".")
    wide = line.x1 - line.x0 > 0.75 * width
    return line.size > 1.2 * first.size or (wide and sentence)


def _is_dense(rows: list[list[Cell]]) -> bool:
    """Enough rows have several cells."""
    several = sum(len(row) > 1 for row in rows)
    many = sum(len(row) > 2 for row in rows)
    return (several >= 3 or many >= 2) and several >= 0.5 * len(rows)


def _with_heads(lines: Sequence[Line], cells: list[list[Cell]], start: int, floor: int) -> int:
    """Take in lines above that stand over the columns right of the first."""
    edge = min(row[1].x0 for row in cells[start : start + 3] if len(row) > 1)
    while start > floor:
        above, row = lines[start - 1], lines[start]
        if row.base - above.base > 2 * row.size or above.x0 < edge - 2 * row.size:
            break
        if above.x0 <= lines[start].x0 + row.size and len(cells[start]) > 1:
            break
        start -= 1
    return start


def _grid(lines: Sequence[Line], cells: list[list[Cell]], start: int, end: int) -> Grid | None:
    rows = cells[start:end]
    several = [row for row in rows if len(row) > 1]
    if not _is_dense(rows):
        return None
    shares = sorted({0, 1, int(0.15 * len(several)), int(0.3 * len(several))})
    tries = [_fill(_columns(several, share), rows) for share in shares]
    texts, clashes = min(tries, key=lambda filled: filled[1])
    if clashes > 0.2 * len(rows) or len(texts[0]) < 2 or _is_prose(texts):
        return None
    return Grid(start, end, tuple(texts), _header_rows(texts, lines[start:end]))


def _fill(
    columns: list[tuple[float, float]], rows: list[list[Cell]]
) -> tuple[list[tuple[str, ...]], int]:
    """The rows' texts by column, and how many cells fell into a column that was taken."""
    if not columns:
        return [()], len(rows)
    filled, clashes = [], 0
    for row in rows:
        texts = [""] * len(columns)
        for cell in row:
            column = _column(columns, cell)
            clashes += bool(texts[column])
            texts[column] = f"{texts[column]} {cell.text}".strip()
        filled.append(tuple(texts))
    return filled, clashes


def _columns(rows: list[list[Cell]], few: int) -> list[tuple[float, float]]:
    """Ranges of `x` that more than `few` rows use."""
    events = sorted([(c.x0, 1) for r in rows for c in r] + [(c.x1, -1) for r in rows for c in r])
    columns: list[tuple[float, float]] = []
    depth, begin = 0, 0.0
    for x, step in events:
        before, depth = depth, depth + step
        if before <= few < depth:
            begin = x
        elif depth <= few < before:
            columns.append((begin, x))
    return columns


def _column(columns: list[tuple[float, float]], cell: Cell) -> int:
    """The first column that a cell reaches into well, else the nearest."""

    def shared(i: int) -> float:
        return min(cell.x1, columns[i][1]) - max(cell.x0, columns[i][0])

    best = max(range(len(columns)), key=shared)
    reached = [i for i in range(len(columns)) if shared(i) > 0.5 * max(shared(best), 0.1)]
    return reached[0] if reached else best


def _is_prose(rows: list[tuple[str, ...]]) -> bool:
    """Two columns of long text are lines of something else."""
    filled = [cell for row in rows for cell in row if cell]
    long = sum(len(cell) > 60 for cell in filled)
    return long > 0.4 * len(filled)


def _header_rows(rows: list[tuple[str, ...]], lines: Sequence[Line]) -> int:
    """Rows before the first row with a label and a number, where there are such rows."""
    for i, (row, line) in enumerate(zip(rows, lines, strict=True)):
        numbers = any(_NUMERIC.match(cell) and any(map(str.isdigit, cell)) for cell in row[1:])
        if row[0] and numbers and not (line.style.bold and i == 0):
            return i if i <= 4 else 0
    return 1 if lines[0].style.bold and not lines[-1].style.bold else 0
