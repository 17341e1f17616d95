"""What an extractive answer is made of: the sentences and table rows of the hits.

Shared by the answerers. A unit is a range of characters of its hit's chunk, so its place in the
document is the chunk's place plus that range.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chunkwise.types import Hit, Segmenter, Span

_RULE = re.compile(r"^[\s|:+=\-]*-{2,}[\s|:+=\-]*$")
_EDGES = "# \t\r\n*_:"


@dataclass(frozen=True, slots=True)
class Unit:
    """A sentence or a table row.

    Attributes:
        hit: Index of its hit.
        start: First character in the chunk's text.
        end: One past the last.
        is_row: True for a row of a table.
        header: Rows above it that name its columns, in the chunk's text; None without.
        is_heading: True when it only repeats a heading of the chunk.
    """

    hit: int
    start: int
    end: int
    is_row: bool = False
    header: Span | None = None
    is_heading: bool = False


def units_of(hits: Sequence[Hit], segmenter: Segmenter) -> list[Unit]:
    """Sentences and rows of all hits, in the order of the hits and of their text."""
    return [unit for place, hit in enumerate(hits) for unit in _units(place, hit, segmenter)]


def _units(place: int, hit: Hit, segmenter: Segmenter) -> Iterator[Unit]:
    text = hit.chunk.text
    headings = {heading.strip(_EDGES) for heading in hit.chunk.headings}
    done = 0
    for table in _tables(text, is_continued=bool(hit.chunk.header)):
        yield from _sentences(place, text, Span(done, table[0].start), headings, segmenter)
        yield from _rows(place, text, table, has_header=not hit.chunk.header or done > 0)
        done = table[-1].end
    yield from _sentences(place, text, Span(done, len(text)), headings, segmenter)


def _sentences(
    place: int, text: str, part: Span, headings: set[str], segmenter: Segmenter
) -> Iterator[Unit]:
    for start, end in segmenter.split(text[part.start : part.end]):
        sentence = text[part.start + start : part.start + end]
        is_heading = sentence.startswith("#") or sentence.strip(_EDGES) in headings
        yield Unit(place, part.start + start, part.start + end, is_heading=is_heading)


def _rows(place: int, text: str, table: Sequence[Span], *, has_header: bool) -> Iterator[Unit]:
    """Rows of one table; its first row is the header, with the rule line under it."""
    rules = [i for i, row in enumerate(table) if _RULE.match(text[row.start : row.end])]
    num_header = 0 if not has_header else (rules[0] + 1 if rules and rules[0] <= 2 else 1)
    header = Span(table[0].start, table[num_header - 1].end) if num_header else None
    for number, row in enumerate(table):
        if number >= num_header and number not in rules:
            yield Unit(place, row.start, row.end, is_row=True, header=header)


def _tables(text: str, *, is_continued: bool) -> Iterator[list[Span]]:
    """Runs of two or more lines with the same columns; one line will do where a table goes on."""
    run: list[Span] = []
    columns = 0
    for line in [*_lines(text), None]:
        its_columns = _columns(text[line.start : line.end]) if line else 0
        if run and its_columns != columns:
            if len(run) > 1 or (is_continued and run[0].start == 0):
                yield run
            run = []
        if line and its_columns:
            run.append(line)
            columns = its_columns
    return


def _columns(line: str) -> int:
    """Number of columns of a table's line; 0 for a line of no table."""
    inner = line.strip().strip("|")
    separator = "\t" if "\t" in inner else "|"
    return inner.count(separator) + 1 if separator in inner else 0


def _lines(text: str) -> Iterator[Span]:
    """Lines without their blank edges; blank ones are left as empty spans."""
    start = 0
    for line in text.splitlines(keepends=True):
        body = line.strip()
        first = start + len(line) - len(line.lstrip()) if body else start
        yield Span(first, first + len(body))
        start += len(line)
