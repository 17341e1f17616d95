"""OpenDocument files: texts (.odt), and plainly spreadsheets (.ods) and slides (.odp).

Source: OASIS OpenDocument 1.3. Zipped files and flat ones (.fodt) have the same XML.
Order: paragraphs, lists and tables as they stand; text boxes, footnotes and comments behind the
paragraph they hang on. Deleted text, headers and footers are left out. Sheets and slides are
pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing.base import DocumentBuilder
from chunkwise.rag.parsing.ooxml import find_local, local_name
from chunkwise.rag.parsing.zips import open_zip, parse_xml, read_entry
from chunkwise.types import BlockKind, Document

if TYPE_CHECKING:
    import zipfile
    from xml.etree.ElementTree import Element

__all__ = ["OdtParser"]

_BASE = "{urn:oasis:names:tc:opendocument:xmlns:"
_TEXT, _TABLE, _STYLE = f"{_BASE}text:1.0}}", f"{_BASE}table:1.0}}", f"{_BASE}style:1.0}}"
_OFFICE, _PAGE = f"{_BASE}office:1.0}}", f"{_BASE}presentation:1.0}}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_MATH = "{http://www.w3.org/1998/Math/MathML}"
_METADATA = {
    "creator": "author",
    "initial-creator": "author",
    "subject": "subject",
    "keyword": "keywords",
    "description": "description",
    "language": "language",
    "creation-date": "created",
    "date": "modified",
}
_STYLE_KINDS: tuple[tuple[str, BlockKind], ...] = (
    ("preformatted", "code"),
    ("code", "code"),
    ("quotation", "quote"),
    ("caption", "caption"),
    ("illustration", "caption"),
)
_LEFT_OUT = frozenset(
    [
        "tracked-changes",
        "change",
        "change-start",
        "change-end",
        "sequence-decls",
        "variable-decls",
        "forms",
        "bookmark",
        "bookmark-start",
        "bookmark-end",
        "ruby-text",
        "soft-page-break",
        "desc",
        "title",
        "date-time-decl",
        "footer-decl",
        "header-decl",
        "event-listeners",
    ]
)
_PAGE_ROLES = frozenset(("page-number", "date-time", "footer", "header", "page"))
_MAX_REPEATS = 1000


@dataclass(frozen=True)
class OdtParser:
    """Parses OpenDocument files."""

    suffixes: ClassVar[tuple[str, ...]] = (
        ".odt",
        ".ott",
        ".fodt",
        ".ods",
        ".fods",
        ".odp",
        ".fodp",
    )

    def parse(self, data: bytes, *, name: str) -> Document:
        """See `Parser.parse`."""
        builder = DocumentBuilder(name)
        if data.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
            archive, roots = None, [parse_xml(data, part="the file", name=name)]
        else:
            archive = open_zip(data, name=name, kind="OpenDocument file")
            roots = list(_roots(archive, name))
        for root in roots:
            _read_metadata(root, builder)
        styles = _Styles(roots)
        for body in (body for root in roots for body in root.iter(f"{_OFFICE}body")):
            for content in body:
                _Reader(builder, styles, archive).content(content)
        return builder.build()


def _roots(archive: zipfile.ZipFile, name: str) -> Iterator[Element]:
    entries = set(archive.namelist())
    manifest = "META-INF/manifest.xml"
    if manifest in entries and b"encryption-data" in read_entry(archive, manifest, name=name):
        raise DocumentError(name, "is protected by a password; save it without one")
    for entry in ("meta.xml", "styles.xml", "content.xml"):
        if entry in entries or entry == "content.xml":
            yield parse_xml(read_entry(archive, entry, name=name), part=entry, name=name)


def _read_metadata(root: Element, builder: DocumentBuilder) -> None:
    for meta in root.iter(f"{_OFFICE}meta"):
        for element in meta:
            key, value = local_name(element), " ".join((element.text or "").split())
            if key == "title":
                builder.title = value
            elif key in _METADATA and value:
                builder.metadata.setdefault(_METADATA[key], value)


class _Styles:
    """Display names and list styles."""

    def __init__(self, roots: list[Element]) -> None:
        self._parents: dict[str, str] = {}
        self._numbered: dict[tuple[str, int], tuple[str, str]] = {}
        for element in (e for root in roots for e in root.iter()):
            name = element.get(f"{_STYLE}name", "")
            if element.tag == f"{_STYLE}style" and element.get(f"{_STYLE}family") == "paragraph":
                self._parents[name] = element.get(f"{_STYLE}parent-style-name", "")
            elif element.tag == f"{_TEXT}list-style":
                self._read_list(name, element)

    def names(self, name: str) -> list[str]:
        """A paragraph style and those it is based on, in lower case with plain spaces."""
        found: list[str] = []
        while name and name not in found and len(found) < 20:
            found.append(name)
            name = self._parents.get(name, "")
        return [n.lower().replace("_20_", " ") for n in found]

    def number_format(self, name: str, level: int) -> tuple[str, str] | None:
        """Format and suffix of the numbers at a level of a list; None for bullets."""
        return self._numbered.get((name, level))

    def _read_list(self, name: str, element: Element) -> None:
        for level in element:
            number_format = level.get(f"{_STYLE}num-format", "")
            depth = level.get(f"{_TEXT}level", "1")
            if local_name(level) == "list-level-style-number" and number_format:
                suffix = level.get(f"{_STYLE}num-suffix", "")
                self._numbered[name, int(depth)] = number_format, suffix


@dataclass(slots=True)
class _Extras:
    """What hangs on a paragraph: text boxes and the like, and notes with their labels."""

    boxes: list[Element] = field(default_factory=list)
    notes: list[tuple[str, Element]] = field(default_factory=list)


class _Reader:
    def __init__(
        self, builder: DocumentBuilder, styles: _Styles, archive: zipfile.ZipFile | None
    ) -> None:
        self._builder, self._styles, self._archive = builder, styles, archive
        self._counts: dict[str, int] = {}  # items so far of a numbered list style
        self._page: int | None = None
        self._is_list = False
        self._code: list[str] = []

    def content(self, content: Element) -> None:
        """Read the body: a text, or the pages of a spreadsheet or presentation."""
        if local_name(content) == "text":
            self._blocks(content)
            self._end_code()
            return
        for element in content:
            if local_name(element) in ("table", "page"):
                self._page = (self._page or 0) + 1
                self._builder.new_page()
                if local_name(element) == "table":
                    title = element.get(f"{_TABLE}name", "")
                    self._builder.add("heading", title, level=1, page=self._page)
                    self._table(element)
                else:
                    self._slide(element)
                self._end_code()

    def _slide(self, page: Element) -> None:
        for element in page:
            role = element.get(f"{_PAGE}class", "")
            if role in _PAGE_ROLES:
                continue
            paragraphs = (self._text(p, _Extras()) for p in element.iter(f"{_TEXT}p"))
            if role == "title":
                text = " ".join(" ".join(paragraphs).split())
                self._builder.add("heading", text, level=1, page=self._page)
                self._builder.title = self._builder.title or text
            elif local_name(element) == "notes":
                self._builder.add("note", "\n".join(paragraphs).strip(), page=self._page)
            else:
                self._blocks(element)

    def _blocks(self, parent: Element, level: int = 0, style: str = "") -> None:
        for element in parent:
            name = local_name(element)
            if name in ("p", "h"):
                self._paragraph(element, name == "h")
            elif name == "list":
                self._list(element, level + 1, style)
            elif name == "table":
                self._table(element)
            elif name == "notes" or name in _LEFT_OUT:
                continue
            else:
                self._blocks(element, level, style)  # section, frame, text-box, index-body ...

    def _paragraph(self, element: Element, is_heading: bool) -> None:
        extras = _Extras()
        text = self._text(element, extras)
        names = self._styles.names(element.get(f"{_TEXT}style-name", ""))
        kind = _kind(names)
        if kind == "code":
            self._code.append(text)
        elif text.strip():
            self._end_code()
            self._is_list = False
            if is_heading or "title" in names:
                level = element.get(f"{_TEXT}outline-level", "1")
                text = " ".join(text.split())
                self._builder.add("heading", text, level=int(level), page=self._page)
                if not is_heading:
                    self._builder.title = self._builder.title or text
            else:
                self._builder.add(kind, text.strip(), page=self._page)
        self._add_extras(extras)

    def _end_code(self) -> None:
        if self._code:
            self._builder.add("code", "\n".join(self._code), page=self._page)
            self._code, self._is_list = [], False

    def _list(self, element: Element, level: int, style: str) -> None:
        style = element.get(f"{_TEXT}style-name", style)
        number_format = self._styles.number_format(style, level)
        goes_on = element.get(f"{_TEXT}continue-numbering") == "true"
        goes_on = goes_on or f"{_TEXT}continue-list" in element.attrib
        count = self._counts.get(f"{style}/{level}", 0) if goes_on else 0
        for item in element:
            if local_name(item) not in ("list-item", "list-header"):
                continue
            start = item.get(f"{_TEXT}start-value", "")
            if len(item) and local_name(item[0]) != "list":  # a mere wrapper has no number
                count = int(start) if start.isdigit() else count + 1
            marker = "-" if number_format is None else _number(count, *number_format)
            for child in item:
                if local_name(child) == "list":
                    self._list(child, level + 1, style)
                elif local_name(child) == "p":
                    marker = self._item(child, marker, level)
                elif local_name(child) == "h":
                    self._paragraph(child, True)
                else:
                    self._blocks(child, level, style)
        self._counts[f"{style}/{level}"] = count

    def _item(self, element: Element, marker: str, level: int) -> str:
        """Add a paragraph of a list item; the marker for the next one of this item."""
        extras = _Extras()
        text = self._text(element, extras).strip()
        if text:
            self._end_code()
            self._builder.add(
                "list_item",
                f"{marker} {text}".strip(),
                level=level,
                page=self._page,
                tight=self._is_list,
            )
            self._is_list = True
            marker = ""
        self._add_extras(extras)
        return marker

    def _add_extras(self, extras: _Extras) -> None:
        for box in extras.boxes:
            self._blocks(box)
        for label, element in extras.notes:
            lines = (self._text(p, _Extras()).strip() for p in element.iter(f"{_TEXT}p"))
            text = "\n".join(filter(None, lines))
            self._builder.add("note", f"{label} {text}" if text else "", page=self._page)
            self._is_list = False

    def _table(self, element: Element) -> None:
        self._end_code()
        self._is_list = False
        extras = _Extras()
        rows: list[list[str]] = []
        header_rows = 0
        for row, is_header in _rows(element):
            cells = self._row(row, extras)
            repeats = min(int(row.get(f"{_TABLE}number-rows-repeated", "1")), _MAX_REPEATS)
            if any(cells):
                header_rows += is_header
                rows += [cells] * repeats
        width = max(map(len, rows), default=0)
        padded = [row + [""] * (width - len(row)) for row in rows]
        used = [i for i in range(width) if any(row[i] for row in padded)]
        self._builder.add_table(
            [[row[i] for i in used] for row in padded], header_rows=header_rows, page=self._page
        )
        self._add_extras(extras)

    def _row(self, row: Element, extras: _Extras) -> list[str]:
        """Texts of the cells of a row, without the blank ones at its end."""
        texts: list[str] = []
        for cell in row:
            if local_name(cell) not in ("table-cell", "covered-table-cell"):
                continue
            repeats = int(cell.get(f"{_TABLE}number-columns-repeated", "1"))
            lines = (self._text(p, extras).strip() for p in _paragraphs(cell))
            text = " ".join(filter(None, lines))
            if local_name(cell) == "covered-table-cell":
                text = ""
            texts += [text] * min(repeats, _MAX_REPEATS)
            extras.notes += [
                ("Comment:", note) for note in cell if local_name(note) == "annotation"
            ]
        while texts and not texts[-1]:
            texts.pop()
        return texts

    def _text(self, element: Element, extras: _Extras) -> str:
        return "".join(self._pieces(element, extras)).strip("\n")

    def _pieces(self, element: Element, extras: _Extras) -> Iterator[str]:
        yield _collapsed(element.text)
        for child in element:
            name = local_name(child)
            if name == "s":
                yield " " * min(int(child.get(f"{_TEXT}c", "1")), _MAX_REPEATS)
            elif name in ("tab", "line-break"):
                yield "\t" if name == "tab" else "\n"
            elif name == "note":
                citation = "".join(e.text or "" for e in find_local(child, "note-citation"))
                extras.notes += [(f"[{citation}]", body) for body in find_local(child, "note-body")]
                yield f"[{citation}]"
            elif name == "annotation":
                extras.notes.append(("Comment:", child))
            elif name == "text-box":
                extras.boxes.append(child)
            elif name == "object":
                yield self._object(child)
            elif name not in _LEFT_OUT:
                yield from self._pieces(child, extras)
            yield _collapsed(child.tail)

    def _object(self, element: Element) -> str:
        """An equation as it was typed, or as its signs follow each other."""
        root = element
        entry = element.get(_HREF, "").removeprefix("./") + "/content.xml"
        if self._archive is not None and entry in self._archive.namelist():
            name = self._builder.name
            root = parse_xml(read_entry(self._archive, entry, name=name), part=entry, name=name)
        for math in root.iter(f"{_MATH}math"):
            for annotation in math.iter(f"{_MATH}annotation"):
                return " ".join((annotation.text or "").split())
            return "".join("".join(math.itertext()).split())
        return ""


def _kind(names: list[str]) -> BlockKind:
    for part, kind in _STYLE_KINDS:
        if any(part in name for name in names):
            return kind
    return "paragraph"


def _collapsed(text: str | None) -> str:
    """White space as OpenDocument counts it: a run is one space."""
    if not text:
        return ""
    words = " ".join(text.split())
    before = " " if text[0].isspace() else ""
    after = " " if words and text[-1].isspace() else ""
    return f"{before}{words}{after}"


def _rows(table: Element, is_header: bool = False) -> Iterator[tuple[Element, bool]]:
    for child in table:
        name = local_name(child)
        if name == "table-row":
            yield child, is_header
        elif name in ("table-header-rows", "table-rows", "table-row-group"):
            yield from _rows(child, is_header or name == "table-header-rows")


def _paragraphs(cell: Element) -> Iterator[Element]:
    for child in cell:
        name = local_name(child)
        if name in ("p", "h"):
            yield child
        elif name not in ("annotation", "shapes", *_LEFT_OUT):
            yield from _paragraphs(child)


def _number(count: int, number_format: str, suffix: str) -> str:
    if number_format in ("a", "A"):
        text = chr(ord(number_format) + (count - 1) % 26)
    else:
        text = _roman(count, number_format) if number_format in ("i", "I") else str(count)
    return text + suffix


def _roman(number: int, number_format: str) -> str:
    values = (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1)
    signs = ("m", "cm", "d", "cd", "c", "xc", "l", "xl", "x", "ix", "v", "iv", "i")
    text = ""
    for value, sign in zip(values, signs, strict=True):
        text += sign * min(number // value, 10)
        number %= value
    return text.upper() if number_format == "I" else text
