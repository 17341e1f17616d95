"""Word documents (.docx), read from their XML.

Source: ECMA-376, part 1, WordprocessingML. Read directly and not through python-docx, which
leaves out text boxes, notes, content controls, tracked changes and equations.
Order: paragraphs and tables as they stand; text boxes behind the paragraph they hang on;
footnotes, endnotes and comments behind the block that refers to them. Deleted and hidden text,
headers and footers are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from chunkwise.rag.parsing.base import DocumentBuilder
from chunkwise.rag.parsing.omml import equation_text
from chunkwise.rag.parsing.ooxml import (
    Package,
    chart_rows,
    chart_title,
    find_local,
    local_name,
)
from chunkwise.rag.parsing.wordstyles import (
    Numbering,
    Style,
    Styles,
    W,
    font_is_monospaced,
    is_hidden,
    is_on,
    numbering_of,
    outline_of,
    value_of,
)
from chunkwise.types import Document

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["DocxParser"]

_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_LOOKS_LIKE_CODE = re.compile(r"[=;{}()<>\[\]#$\\]|::|->")
_CHARACTERS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}
_LEFT_OUT = frozenset(
    [
        "del",
        "moveFrom",
        "delText",
        "instrText",
        "delInstrText",
        "rPr",
        "pPr",
        "tcPr",
        "tblPr",
        "trPr",
        "rt",
        "sectPr",
    ]
)
_NOTES = {"footnoteReference": "footnotes", "endnoteReference": "endnotes"}
_MAX_LAYOUT_CELL_BLOCKS = 3


@dataclass(frozen=True)
class DocxParser:
    """Parses .docx files."""

    suffixes: ClassVar[tuple[str, ...]] = (".docx", ".docm", ".dotx", ".dotm")

    def parse(self, data: bytes, *, name: str) -> Document:
        """See `Parser.parse`."""
        package = Package(data, name=name, kind="Word document")
        builder = DocumentBuilder(name)
        builder.metadata = package.properties()
        builder.title = builder.metadata.pop("title", "")
        _Reader(package, builder).read()
        return builder.build()


@dataclass(slots=True)
class _Extras:
    """What a paragraph holds besides its line of text, to be put behind it."""

    boxes: list[Element] = field(default_factory=list)
    charts: list[str] = field(default_factory=list)
    diagrams: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


class _Reader:
    def __init__(self, package: Package, builder: DocumentBuilder) -> None:
        self._package, self._builder = package, builder
        self._relations = package.relations(package.main)
        self._styles = Styles(self._part("styles"))
        self._numbering = Numbering(self._part("numbering"))
        self._notes = {
            kind: self._read_notes(kind) for kind in ("footnotes", "endnotes", "comments")
        }
        self._code: list[str] = []
        self._note_numbers: dict[tuple[str, str], int] = {}
        self._is_list = False  # the block before was a list item

    def read(self) -> None:
        body = self._package.xml(self._package.main).find(f"{W}body")
        if body is not None:
            self._blocks(body)
            self._end_code()

    def _part(self, kind: str) -> Element | None:
        for relation in self._relations.values():
            if relation.kind == kind and self._package.has(relation.target):
                return self._package.xml(relation.target)
        return None

    def _read_notes(self, kind: str) -> dict[str, Element]:
        root = self._part(kind)
        return {} if root is None else {e.get(f"{W}id", ""): e for e in root}

    def _blocks(self, parent: Element) -> None:
        for element in parent:
            name = local_name(element)
            if name == "p":
                self._paragraph(element)
            elif name == "tbl":
                self._table(element)
            elif name == "altChunk":
                self._builder.warnings.append("An embedded document (altChunk) was not read.")
            elif name == "AlternateContent":
                self._blocks(_chosen(element))
            elif name not in _LEFT_OUT and name != "sdtPr":
                self._blocks(element)  # sdt, sdtContent, customXml, ins, moveTo ...

    def _paragraph(self, element: Element) -> None:
        properties = element.find(f"{W}pPr")
        style = self._styles.get(value_of(properties, "pStyle") or self._styles.default)
        extras = _Extras()
        text = self._text(element, extras)
        if self._is_code(element, style, text):
            self._code.append(text)
        else:
            if text.strip():
                self._end_code()
                self._add(text.strip(), properties, style)
            elif self._code and not extras.boxes:
                self._code.append("")
        self._add_extras(extras)

    def _add(self, text: str, properties: Element | None, style: Style) -> None:
        outline = outline_of(properties)
        level = style.heading_level() if outline is None else (outline + 1) % 10
        numbering = numbering_of(properties, style.numbering)
        marker = ""
        if numbering and numbering[0] not in ("", "0"):
            marker = self._numbering.marker(*numbering)
        was_list, self._is_list = self._is_list, False
        if style.is_title and not level:
            self._builder.add("heading", text, level=1)
            self._builder.title = self._builder.title or " ".join(text.split())
        elif level:
            number = f"{marker} " if marker not in ("", "-") else ""
            self._builder.add("heading", number + " ".join(text.split()), level=level)
        elif marker and numbering:
            self._is_list = True
            self._builder.add(
                "list_item", f"{marker} {text}", level=numbering[1] + 1, tight=was_list
            )
        else:
            kind = "caption" if style.is_caption else "quote" if style.is_quote else "paragraph"
            self._builder.add(kind, text)  # type: ignore[arg-type]

    def _is_code(self, element: Element, style: Style, text: str) -> bool:
        if not text.strip():
            return False
        if style.is_code:
            return True
        looks_so = bool(self._code) or bool(_LOOKS_LIKE_CODE.search(text))
        return looks_so and self._is_monospaced(element, style)

    def _is_monospaced(self, element: Element, style: Style) -> bool:
        """Whether all runs that show text are set in a font of one width."""
        seen = False
        for run in element.iter(f"{W}r"):
            if not any((t.text or "").strip() for t in run.iter(f"{W}t")):
                continue
            properties = run.find(f"{W}rPr")
            own = font_is_monospaced(properties)
            of_style = self._styles.get(value_of(properties, "rStyle")).is_monospaced
            if not next((x for x in (own, of_style, style.is_monospaced) if x is not None), False):
                return False
            seen = True
        return seen

    def _end_code(self) -> None:
        if self._code:
            self._builder.add("code", "\n".join(self._code).rstrip())
            self._code, self._is_list = [], False

    def _add_extras(self, extras: _Extras) -> None:
        for box in extras.boxes:
            self._blocks(box)
        for target in extras.charts:
            root = self._package.xml(target)
            self._end_code()
            self._builder.add("caption", chart_title(root))
            self._builder.add_table(chart_rows(root), header_rows=1)
        for target in extras.diagrams:
            self._diagram(target)
        for kind, note_id in extras.notes:
            self._note(kind, note_id)

    def _diagram(self, target: str) -> None:
        for paragraph in find_local(self._package.xml(target), "p"):
            text = "".join(t.text or "" for t in find_local(paragraph, "t"))
            self._builder.add("paragraph", text.strip())

    def _note(self, kind: str, note_id: str) -> None:
        element = self._notes[kind].get(note_id)
        if element is None:
            return
        paragraphs = _paragraphs(element)
        text = "\n".join(filter(None, (self._text(p, _Extras()).strip() for p in paragraphs)))
        if not text:
            return
        if kind == "comments":
            author = element.get(f"{W}author", "")
            label = f"Comment by {author}:" if author else "Comment:"
        else:
            label = f"[{self._note_numbers[kind, note_id]}]"
        self._end_code()
        self._builder.add("note", f"{label} {text}")
        self._is_list = False

    def _text(self, element: Element, extras: _Extras) -> str:
        """The text of a paragraph as it is shown; what hangs on it goes to `extras`."""
        return "".join(self._pieces(element, extras))

    def _pieces(self, element: Element, extras: _Extras) -> Iterator[str]:
        for child in element:
            name = local_name(child)
            if name in _LEFT_OUT:
                continue
            if name == "r" and self._run_is_hidden(child):
                continue
            if name == "t":
                yield child.text or ""
            elif name == "br" and child.get(f"{W}type", "textWrapping") != "textWrapping":
                continue  # a page or column break
            elif name in _CHARACTERS:
                yield _CHARACTERS[name]
            elif name in ("oMath", "oMathPara"):
                yield equation_text(child)
            elif name == "AlternateContent":
                yield from self._pieces(_chosen(child), extras)
            elif name == "txbxContent":
                extras.boxes.append(child)
            elif name in _NOTES:
                yield self._reference(_NOTES[name], child.get(f"{W}id", ""), extras)
            elif name == "commentReference":
                extras.notes.append(("comments", child.get(f"{W}id", "")))
            elif name == "chart":
                self._relate(child.get(f"{_R}id", ""), extras.charts)
            elif name == "relIds":
                self._relate(child.get(f"{_R}dm", ""), extras.diagrams)
            else:
                yield from self._pieces(child, extras)

    def _run_is_hidden(self, run: Element) -> bool:
        properties = run.find(f"{W}rPr")
        if properties is None:
            return False
        return is_hidden(properties) or self._styles.get(value_of(properties, "rStyle")).is_hidden

    def _reference(self, kind: str, note_id: str, extras: _Extras) -> str:
        if note_id not in self._notes[kind]:
            return ""
        number = self._note_numbers.setdefault((kind, note_id), len(self._note_numbers) + 1)
        extras.notes.append((kind, note_id))
        return f"[{number}]"

    def _relate(self, relation_id: str, targets: list[str]) -> None:
        relation = self._relations.get(relation_id)
        if relation is not None and self._package.has(relation.target):
            targets.append(relation.target)

    def _table(self, element: Element) -> None:
        self._end_code()
        self._is_list = False
        rows = [row for row in _inside(element, "tr") if not _is_deleted(row)]
        if self._is_layout(rows):
            for row in rows:
                for cell in _inside(row, "tc"):
                    self._blocks(cell)
            self._end_code()
            return
        extras = _Extras()
        texts = [self._row(row, extras) for row in rows]
        self._builder.add_table(texts, header_rows=_header_rows(element, rows, texts))
        self._add_extras(extras)

    def _is_layout(self, rows: list[Element]) -> bool:
        """Whether a table only arranges text: one cell, or headings inside its cells."""
        cells = [cell for row in rows for cell in _inside(row, "tc")]
        if len(cells) == 1:
            return True
        paragraphs = [p for cell in cells for p in cell.iter(f"{W}p")]
        headings = [p for p in paragraphs if self._heads(p)]
        return bool(headings) and len(paragraphs) > _MAX_LAYOUT_CELL_BLOCKS * len(cells)

    def _heads(self, paragraph: Element) -> bool:
        return self._styles.get(value_of(paragraph.find(f"{W}pPr"), "pStyle")).heading_level() > 0

    def _row(self, row: Element, extras: _Extras) -> list[str]:
        properties = row.find(f"{W}trPr")
        texts = [""] * _number(value_of(properties, "gridBefore"))
        for cell in _inside(row, "tc"):
            cell_properties = cell.find(f"{W}tcPr")
            merge = None if cell_properties is None else cell_properties.find(f"{W}vMerge")
            goes_on = merge is not None and merge.get(f"{W}val", "continue") == "continue"
            texts.append("" if goes_on else self._cell(cell, extras))
            texts += [""] * (_number(value_of(cell_properties, "gridSpan")) - 1)
        return texts

    def _cell(self, cell: Element, extras: _Extras) -> str:
        """A cell in one line; the cells of a table inside it follow each other."""
        lines = []
        for paragraph in _paragraphs(cell):
            text = self._text(paragraph, extras).strip()
            properties = paragraph.find(f"{W}pPr")
            style = self._styles.get(value_of(properties, "pStyle"))
            numbering = numbering_of(properties, style.numbering)
            if text and numbering and numbering[0] not in ("", "0"):
                text = f"{self._numbering.marker(*numbering)} {text}".strip()
            lines.append(text)
        return " ".join(filter(None, lines))


def _chosen(alternatives: Element) -> Element:
    """The first of several versions of the same content."""
    return next(iter(alternatives), alternatives)


def _inside(parent: Element, name: str) -> Iterator[Element]:
    """Rows of a table or cells of a row, also in content controls; not of tables inside."""
    for child in parent:
        if child.tag == W + name:
            yield child
        elif local_name(child) in ("sdt", "sdtContent", "customXml", "ins"):
            yield from _inside(child, name)


def _paragraphs(parent: Element) -> Iterator[Element]:
    """Paragraphs of a cell or note, of tables inside it too, but not of text boxes."""
    for child in parent:
        if child.tag == f"{W}p":
            yield child
        elif local_name(child) not in _LEFT_OUT:
            yield from _paragraphs(child)


def _is_deleted(row: Element) -> bool:
    properties = row.find(f"{W}trPr")
    return properties is not None and properties.find(f"{W}del") is not None


def _number(value: str) -> int:
    return min(int(value), 1000) if value.isdigit() else 0


def _header_rows(table: Element, rows: list[Element], texts: list[list[str]]) -> int:
    """Rows marked to repeat; else the first, if the table's look sets it off."""
    marked = 0
    for row in rows:
        mark = row.find(f"{W}trPr/{W}tblHeader")
        if mark is None or not is_on(mark.get(f"{W}val", "1")):
            break
        marked += 1
    if marked or len(rows) < 2:
        return marked if marked < len(rows) else 0
    look = table.find(f"{W}tblPr/{W}tblLook")
    if look is None:
        return 0
    first = look.get(f"{W}firstRow") or str(int(look.get(f"{W}val", "0") or "0", 16) & 0x20)
    return int(is_on(first) and sum(map(bool, texts[0])) > 1)
