"""Delimited tables: comma, semicolon, tab or bar between the cells."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from chunkwise.rag.parsing.base import DocumentBuilder
from chunkwise.rag.parsing.encodings import decode
from chunkwise.types import Document

__all__ = ["CsvParser"]

_DELIMITERS = ",;\t|"
_SAMPLE_CHARS = 1 << 16
_SAMPLE_ROWS = 50
_VALUE = re.compile(  # a number, date, time or truth value: what a header does not hold
    r"[-+(]?[$€£¥]?\s?\d[\d.,'\s/:%-]*(?:[eE][-+]?\d+)?\)?(?:T[\d:.]+Z?)?|true|false|null|none|nan",
    re.I,
)
_YEAR = re.compile(r"(?:1[89]|20)\d\d")


@dataclass(frozen=True)
class CsvParser:
    """One table; delimiter and header are found from the first rows."""

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".tab", ".psv")

    def parse(self, data: bytes, *, name: str) -> Document:
        """Parse a whole file.

        Raises:
            DocumentError: The bytes are no text.
        """
        text = decode(data, name=name)
        delimiter = "\t" if name.lower().endswith(".tsv") else _delimiter(text)
        rows = _Rows(text, delimiter)
        builder = DocumentBuilder(name)
        builder.add_table(rows, header_rows=int(_has_header(_sample(text, delimiter))))
        builder.warnings += rows.warnings()
        return builder.build()


class _Rows:
    """The rows of a file, read one by one; counts what is irregular on the way."""

    def __init__(self, text: str, delimiter: str) -> None:
        self.text, self.delimiter = text, delimiter
        self.is_unquoted = False
        self.widths: Counter[int] = Counter()
        self.first_of_width: dict[int, int] = {}

    def __iter__(self) -> Iterator[list[str]]:
        for line, row in self._read():
            if any(cell.strip() for cell in row):
                self.widths[len(row)] += 1
                self.first_of_width.setdefault(len(row), line)
                yield row

    def warnings(self) -> Iterator[str]:
        """Sentences about what was irregular, after the rows were read."""
        if self.is_unquoted:
            yield "A quotation mark is not closed; from there on, they were kept as text."
        if len(self.widths) > 1:
            usual = max(self.widths, key=lambda w: (self.widths[w], -self.first_of_width[w]))
            odd = [w for w in self.widths if w != usual]
            line = min(self.first_of_width[w] for w in odd)
            count = sum(self.widths[w] for w in odd)
            yield f"{count} rows do not have {usual} cells as the others, first on line {line}."

    def _read(self) -> Iterator[tuple[int, list[str]]]:
        lines = io.StringIO(self.text, newline="\n")
        reader = csv.reader(lines, delimiter=self.delimiter, skipinitialspace=True)
        done = 0
        try:
            for row in reader:
                yield done + 1, row
                done = reader.line_num
        except csv.Error:  # a cell longer than the reader allows: a quotation mark left open
            self.is_unquoted = True
            for number, line in enumerate(self.text.split("\n")[done:], done + 1):
                yield number, line.split(self.delimiter)


def _sample(text: str, delimiter: str) -> list[list[str]]:
    head = text[:_SAMPLE_CHARS]
    if len(text) > _SAMPLE_CHARS:
        head = head[: head.rfind("\n") + 1] or head
    rows = (row for row in _Rows(head, delimiter))
    return [row for _, row in zip(range(_SAMPLE_ROWS), rows, strict=False)]


def _delimiter(text: str) -> str:
    """The delimiter that gives the most rows of one width above 1; a comma when none does."""

    def regularity(delimiter: str) -> tuple[float, int]:
        rows = _sample(text, delimiter)
        widths = Counter(len(row) for row in rows if len(row) > 1)
        if not widths:
            return (0.0, 0)
        width, count = widths.most_common(1)[0]
        return (count / len(rows), width)

    return max(_DELIMITERS, key=regularity)


def _has_header(rows: list[list[str]]) -> bool:
    """Whether the first row names the columns: all different, and unlike what stands below."""
    if len(rows) < 2:
        return False
    first = {i: cell.strip() for i, cell in enumerate(rows[0]) if cell.strip()}
    if len(set(first.values())) < len(first) or len(first) * 2 <= len(rows[0]):
        return False
    below = {i: {row[i].strip() for row in rows[1:] if i < len(row)} for i in first}
    if any(cell in below[i] for i, cell in first.items()):
        return False
    clashes = [c for i, c in first.items() if _VALUE.fullmatch(c) and _has_value(below[i])]
    are_years = len(clashes) > 1 and all(_YEAR.fullmatch(c) for c in clashes)
    return not clashes or (are_years and rows[0][0].strip() not in clashes)


def _has_value(cells: set[str]) -> bool:
    return any(_VALUE.fullmatch(cell) for cell in cells)
