"""Running headers, running footers and page numbers: what repeats at the edges of pages."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence

from chunkwise.rag.parsing.geometry import Frame, Line

_EDGE, _NUMBER_EDGE = 0.1, 0.2
_SAME_HEIGHT = 4.0
_NUMBER = re.compile(
    r"^\W*(?:(?:page|p\.|seite|página|pagina)\s*)?(\d{1,4})(?:\s*(?:/|of|de|von|sur)\s*\d{1,4})?\W*$",
    re.IGNORECASE,
)


def without_furniture(pages: Sequence[list[Line]], frames: Sequence[Frame]) -> list[list[Line]]:
    """The lines of each page without running headers, footers and page numbers.

    A line goes when it stands in the outer tenth of its page (a number alone: outer fifth),
    nothing but such lines stands further out, and its text with digits made equal repeats
    at the same height on three pages (on all pages of a shorter document; a single page
    keeps everything), or it is a number that counts along with the pages. At any height the
    first and the last line go when they repeat on three pages but for a number that counts.
    """
    margins = [list(_margin(lines, frame)) for lines, frame in zip(pages, frames, strict=True)]
    repeated = _repeated(margins)
    offset = _page_offset(margins)
    counting = _counting(pages)
    kept = []
    for lines, margin in zip(pages, margins, strict=True):
        running = {i for y, i, line in margin if _runs(line, y, repeated, offset)}
        gone = _outermost(margin, running)
        gone |= {i for i in _ends(lines) if not counting.isdisjoint(_counts(lines[i]))}
        kept.append([line for i, line in enumerate(lines) if i not in gone])
    return kept


def _margin(lines: list[Line], frame: Frame) -> Iterator[tuple[float, int, Line]]:
    """Lines in the outer tenth of a page: signed distance to the edge, index, line."""
    for i, line in enumerate(lines):
        box = frame.box(line.turn, line.x0, line.top, line.x1, line.bottom)
        edge = (_NUMBER_EDGE if _NUMBER.match(line.text) else _EDGE) * frame.height
        if box.y1 < edge:
            yield box.y1, i, line
        elif box.y0 > frame.height - edge:
            yield box.y0 - frame.height, i, line


Margins = Sequence[Sequence[tuple[float, int, Line]]]


def _repeated(margins: Margins) -> dict[str, float]:
    """Text that repeats at one height, and the height.

    Text of which only the digits differ must stand on a quarter of the pages: `Exhibit 31.1`
    and `Exhibit 32.1` are titles.
    """
    needed = max(2, min(3, len(margins)))
    heights: dict[str, list[float]] = {}
    wordings: dict[str, set[str]] = {}
    for margin in margins:
        for key, (y, text) in {_key(x.text, y): (y, x.text) for y, _, x in margin}.items():
            heights.setdefault(key, []).append(y)
            wordings.setdefault(key, set()).add(text)
    found = {}
    for key, ys in heights.items():
        middle = statistics.median(ys)
        least = needed if len(wordings[key]) == 1 else max(needed, len(margins) / 4)
        if sum(abs(y - middle) <= _SAME_HEIGHT for y in ys) >= least:
            found[key] = middle
    return found


def _key(text: str, y: float) -> str:
    """Digits are made equal only beside letters: rows of numbers are no furniture."""
    letters = any(c.isalpha() for c in text)
    return ("top " if y >= 0 else "end ") + (re.sub(r"\d+", "0", text) if letters else text)


def _page_offset(margins: Margins) -> int | None:
    """Printed number minus page, where two or more pages agree on it."""
    counts: dict[int, set[int]] = {}
    for page, margin in enumerate(margins):
        for _, _, line in margin:
            if match := _NUMBER.match(line.text):
                counts.setdefault(int(match[1]) - page, set()).add(page)
    best = max(counts, key=lambda k: len(counts[k]), default=None)
    return best if best is not None and len(counts[best]) >= 2 else None


def _runs(line: Line, y: float, repeated: dict[str, float], offset: int | None) -> bool:
    match = _NUMBER.match(line.text)
    if match and offset is not None and int(match[1]) - (line.page - 1) == offset:
        return True
    height = repeated.get(_key(line.text, y))
    return height is not None and abs(height - y) <= _SAME_HEIGHT


def _ends(lines: Sequence[Line]) -> set[int]:
    """The highest and the lowest line of a page."""
    places = range(len(lines))
    if not places:
        return set()
    return {min(places, key=lambda i: lines[i].base), max(places, key=lambda i: lines[i].base)}


def _counts(line: Line) -> Iterator[tuple[str, int, int]]:
    """What stays of a line with a page number: for each number, text, rank, number - page."""
    if any(c.isalpha() for c in line.text):
        for rank, match in enumerate(re.finditer(r"\d{1,4}", line.text)):
            rest = line.text[: match.start()] + "0" + line.text[match.end() :]
            yield rest, rank, int(match[0]) - line.page


def _counting(pages: Sequence[list[Line]]) -> set[tuple[str, int, int]]:
    """First and last lines that are equal on three pages but for a counting number."""
    found = Counter(key for lines in pages for i in _ends(lines) for key in _counts(lines[i]))
    return {key for key, pages_with in found.items() if pages_with >= 3}


def _outermost(margin: Sequence[tuple[float, int, Line]], running: set[int]) -> set[int]:
    """The running lines that no other line parts from the edge."""
    gone: set[int] = set()
    for top in (True, False):
        side = sorted((abs(y), i) for y, i, _ in margin if (y >= 0) == top)
        limit = min((d for d, i in side if i not in running), default=float("inf"))
        gone |= {i for d, i in side if i in running and d <= limit + _SAME_HEIGHT}
    return gone
