"""Excel workbooks (.xlsx, .xlsm), read from their XML as a stream.

Source: ECMA-376, part 1, SpreadsheetML. Read directly and not through openpyxl, which in its
streaming mode cannot tell an empty cell from a formula without a stored value.
A sheet is a page under a heading with its name. Rows parted by blank rows are tables of their
own, unless the rows below go on with the columns above. Empty rows and columns are left out; a
merged cell has its text once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing.base import DocumentBuilder
from chunkwise.rag.parsing.cells import NumberFormats
from chunkwise.rag.parsing.ooxml import Package, find_local, local_name
from chunkwise.rag.parsing.zips import DAMAGES, refuse_entities
from chunkwise.types import Document

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["XlsxParser"]

_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_STRICT_R = "{http://purl.oclc.org/ooxml/officeDocument/relationships}"
_MAX_GAPS = 20  # blank columns looked at as borders between tables
_MAX_BLANK_SHARE = 20  # cells of a table for each that holds something


class _Cell(NamedTuple):
    column: int
    text: str
    is_text: bool  # neither a number nor a date
    style: str


_Row = list[_Cell]


@dataclass(frozen=True)
class XlsxParser:
    """Parses .xlsx files; each sheet is a page."""

    suffixes: ClassVar[tuple[str, ...]] = (".xlsx", ".xlsm", ".xltx", ".xltm")

    def parse(self, data: bytes, *, name: str) -> Document:
        """See `Parser.parse`."""
        package = Package(data, name=name, kind="Excel workbook")
        builder = DocumentBuilder(name)
        builder.metadata = package.properties()
        builder.title = builder.metadata.pop("title", "")
        workbook = _Workbook(package)
        for number, (title, part) in enumerate(workbook.sheets(), start=1):
            builder.new_page()
            builder.add("heading", title, level=1, page=number)
            sheet = _Sheet(workbook, part)
            for rows in _tables(sheet.rows()):
                for table in _side_by_side(rows):
                    _add_rows(builder, table, number)
            if sheet.num_uncomputed:
                builder.warnings.append(
                    f"Sheet {title!r}: {sheet.num_uncomputed} formulas have no stored result and "
                    "are shown as formulas; open and save the file in Excel to store them."
                )
            _add_extras(builder, package, part, number)
        return builder.build()


class _Workbook:
    """What sheets share: strings, number formats, relations."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self._root = package.xml(package.main)
        self._relations = package.relations(package.main)
        properties = next(find_local(self._root, "workbookPr"), None)
        is_1904 = properties is not None and properties.get("date1904") in ("1", "true")
        styles = self._part("styles")
        self.formats = NumberFormats(None if styles is None else package.xml(styles), is_1904)
        strings = self._part("sharedStrings")
        self.strings = [] if strings is None else list(_strings(package, strings))

    def sheets(self) -> Iterator[tuple[str, str]]:
        """Names and parts of the sheets that hold cells, in order."""
        for element in find_local(self._root, "sheet"):
            relation_id = element.get(f"{_R}id", element.get(f"{_STRICT_R}id", ""))
            relation = self._relations.get(relation_id)
            if relation is not None and relation.kind == "worksheet":
                yield element.get("name", ""), relation.target

    def _part(self, kind: str) -> str | None:
        targets = [r.target for r in self._relations.values() if r.kind == kind]
        return next(filter(self.package.has, targets), None)


class _Sheet:
    """The rows of a sheet, read once.

    Attributes:
        num_uncomputed: Formulas without a stored result, known after reading.
    """

    def __init__(self, workbook: _Workbook, part: str) -> None:
        self._workbook, self._part = workbook, part
        self.num_uncomputed = 0

    def rows(self) -> Iterator[tuple[int, _Row]]:
        """Numbers and cells of the rows that are not blank."""
        number = 0
        for row in _stream(self._workbook.package, self._part, "row"):
            given = row.get("r", "")
            number = int(given) if given.isdigit() else number + 1
            cells = list(self._cells(row))
            if cells:
                yield number, cells

    def _cells(self, row: Element) -> Iterator[_Cell]:
        column = -1
        for element in row:
            reference = element.get("r")
            column = _column(reference) if reference else column + 1
            text, is_text = self._value(element)
            if text and not text.isspace():
                yield _Cell(column, text, is_text, element.get("s", ""))

    def _value(self, cell: Element) -> tuple[str, bool]:
        """Text of a cell, and whether it is neither a number nor a date."""
        kind, value, formula = cell.get("t", "n"), "", None
        for child in cell:
            name = local_name(child)
            if name == "v":
                value = child.text or ""
            elif name == "f":
                formula = child.text or "(shared)"
            elif name == "is":
                return _rich_text(child), True
        if not value and formula is not None and kind != "str":
            self.num_uncomputed += 1
            return f"={formula}", False
        if kind == "s":
            strings = self._workbook.strings
            known = value.isdigit() and int(value) < len(strings)
            return (strings[int(value)] if known else ""), True
        if kind == "b":
            return {"1": "TRUE", "0": "FALSE"}.get(value, value), False
        if kind in ("n", "") and value:
            return self._workbook.formats.text(value, cell.get("s", "")), False
        return value, kind != "d"


def _strings(package: Package, part: str) -> Iterator[str]:
    return map(_rich_text, _stream(package, part, "si"))


def _rich_text(element: Element) -> str:
    """Text of a string, without its phonetic guides."""
    if local_name(element) in ("rPh", "phoneticPr"):
        return ""
    own = element.text or "" if local_name(element) == "t" else ""
    return own + "".join(map(_rich_text, element))


def _stream(package: Package, part: str, wanted: str) -> Iterator[Element]:
    """Elements of one name, each freed when the next is asked for."""
    from xml.etree.ElementTree import ParseError, iterparse

    with package.open(part) as file:
        refuse_entities(file, part=part, name=package.name)
    with package.open(part) as file:
        parent, tag = None, ""
        try:
            for event, element in iterparse(file, events=("start", "end")):
                if event == "start":
                    if not tag and local_name(element) == wanted:
                        tag = element.tag
                    elif not tag:
                        parent = element  # the last one opened before the first wanted one
                elif element.tag == tag:
                    yield element
                    if parent is not None:
                        parent.clear()
        except (ParseError, *DAMAGES) as error:
            raise DocumentError(package.name, f"{part!r} is damaged ({error})") from error


def _column(reference: str) -> int:
    """Column from 0 of a reference such as `AB12`."""
    return _column_of_letters(reference.rstrip("0123456789"))


@functools.cache
def _column_of_letters(letters: str) -> int:
    column = 0
    for letter in letters.upper():
        column = column * 26 + ord(letter) - 64
    return column - 1


def _tables(rows: Iterator[tuple[int, _Row]]) -> Iterator[list[_Row]]:
    """Rows that belong together."""
    table: list[_Row] = []
    columns: set[int] = set()
    last = 0
    for number, row in rows:
        own = {cell.column for cell in row}
        is_apart = number > last + 1
        goes_on = own <= columns and len(own) > 1 and not all(cell.is_text for cell in row)
        if table and is_apart and not goes_on:
            yield table
            table, columns = [], set()
        table.append(row)
        columns |= own
        last = number
    if table:
        yield table


def _side_by_side(rows: list[_Row]) -> Iterator[list[_Row]]:
    """Tables that stand beside each other, if there are several.

    A blank column alone is no border: many tables have one inside. What begins further down,
    with names above values of its own, is another table.
    """
    used = sorted({cell.column for row in rows for cell in row})
    gaps = [after for before, after in pairwise(used) if after > before + 1]
    for start in gaps if len(gaps) <= _MAX_GAPS else ():
        left = [[cell for cell in row if cell.column < start] for row in rows]
        right = [[cell for cell in row if cell.column >= start] for row in rows]
        if _is_own_table(left, right) or _is_own_table(right, left):
            yield list(filter(None, left))
            yield from _side_by_side(list(filter(None, right)))
            return
    yield rows


def _is_own_table(rows: list[_Row], others: list[_Row]) -> bool:
    """Whether rows begin below the first of the others, with a header."""
    own = list(filter(None, rows))
    widest = max(map(len, own)), max(map(len, others))
    return not rows[0] and bool(others[0]) and min(widest) > 1 and _header_rows(own) > 0


def _add_rows(builder: DocumentBuilder, rows: list[_Row], page: int) -> None:
    """Add a table; lines of one cell above it, or alone, are paragraphs."""
    num_lines = 0
    while num_lines < len(rows) and len(rows[num_lines]) == 1:
        num_lines += 1
    below = rows[num_lines:]
    first_columns = {row[0].column for row in rows[:num_lines]}
    if not below and len(rows) > 1 and len(first_columns) == 1 and not rows[-1][0].is_text:
        below, num_lines = rows, 0  # a column of numbers
    for row in rows[:num_lines]:
        builder.add("paragraph", row[0].text.strip(), page=page)
    if not below:
        return
    columns = sorted({cell.column for row in below for cell in row})
    if len(columns) * len(below) > _MAX_BLANK_SHARE * sum(map(len, below)) + 10_000:
        builder.warnings.append(f"Page {page}: cells lie far apart; their columns are not kept.")
        texts = [[cell.text for cell in row] for row in below]
    else:
        place = {column: i for i, column in enumerate(columns)}
        texts = [_spread(row, place) for row in below]
    builder.add_table(texts, header_rows=_header_rows(below), page=page)


def _spread(row: _Row, place: dict[int, int]) -> list[str]:
    texts = [""] * len(place)
    for cell in row:
        texts[place[cell.column]] = cell.text
    return texts


def _header_rows(rows: list[_Row]) -> int:
    """How many rows name the columns: text above rows with numbers, or set in another style."""
    if len(rows) < 2 or not _is_text(rows[0]):
        return 0
    width = len({cell.column for row in rows[:3] for cell in row})
    if len(rows) > 2 and len(rows[0]) < width and _is_text(rows[1]) and not _is_text(rows[2]):
        return 2  # names over groups of columns
    if len(rows[0]) < 2:
        return 0
    has_values = any(not _is_text(row) for row in rows[1:50])
    styles = [{cell.style for cell in row} for row in rows[:2]]
    return int(has_values or not styles[0] & styles[1])


def _is_text(row: _Row) -> bool:
    return all(cell.is_text for cell in row)


def _add_extras(builder: DocumentBuilder, package: Package, part: str, page: int) -> None:
    """Comments and text boxes of a sheet."""
    for relation in package.relations(part).values():
        if not package.has(relation.target):
            continue
        if relation.kind == "comments":
            for comment in find_local(package.xml(relation.target), "comment"):
                text = "".join(t.text or "" for t in find_local(comment, "t")).strip()
                note = f"Comment on {comment.get('ref', '')}: {text}" if text else ""
                builder.add("note", note, page=page)
        elif relation.kind == "drawing":
            for body in find_local(package.xml(relation.target), "txBody"):
                paragraphs = find_local(body, "p")
                lines = ("".join(t.text or "" for t in find_local(p, "t")) for p in paragraphs)
                builder.add("paragraph", "\n".join(lines).strip(), page=page)
