"""PowerPoint presentations (.pptx), read from their XML.

Source: ECMA-376, part 1, PresentationML and DrawingML. Read directly and not through
python-pptx, so that bullets are resolved through layouts and masters, and charts, diagrams,
equations and comments are read by the code shared with Word files.
Order: the title, then shapes from the top and from the left, then notes and comments. Slide
numbers, dates and footers are left out.
"""

from __future__ import annotations

import string
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from chunkwise.rag.parsing.base import DocumentBuilder
from chunkwise.rag.parsing.omml import equation_text
from chunkwise.rag.parsing.ooxml import Package, chart_rows, chart_title, find_local, local_name
from chunkwise.rag.parsing.slides import A, Layouts, Place, Shape, bullet, list_level
from chunkwise.types import Box, Document

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["PptxParser"]

_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_LEFT_OUT_ROLES = frozenset(("sldNum", "dt", "ftr", "hdr", "sldImg"))
_TITLES = frozenset(("title", "ctrTitle"))


@dataclass(frozen=True)
class PptxParser:
    """Parses .pptx files; each slide is a page."""

    suffixes: ClassVar[tuple[str, ...]] = (".pptx", ".pptm", ".potx", ".ppsx", ".ppsm")

    def parse(self, data: bytes, *, name: str) -> Document:
        """See `Parser.parse`."""
        package = Package(data, name=name, kind="PowerPoint presentation")
        builder = DocumentBuilder(name)
        builder.metadata = package.properties()
        builder.title = builder.metadata.pop("title", "")
        layouts = Layouts(package)
        for number, part in enumerate(_slide_parts(package), start=1):
            builder.new_page()
            _Slide(package, builder, part, number).read(layouts)
        return builder.build()


def _slide_parts(package: Package) -> Iterator[str]:
    relations = package.relations(package.main)
    for element in find_local(package.xml(package.main), "sldId"):
        relation = relations.get(element.get(f"{_R}id", ""))
        if relation is not None and package.has(relation.target):
            yield relation.target


class _Slide:
    def __init__(self, package: Package, builder: DocumentBuilder, part: str, number: int) -> None:
        self._package, self._builder = package, builder
        self._part, self._number = part, number
        self._relations = package.relations(part)

    def read(self, layouts: Layouts) -> None:
        shapes = layouts.shapes(self._part, self._package.xml(self._part))
        for shape in shapes:
            self._shape(shape, shape.place)
        for relation in self._relations.values():
            if not self._package.has(relation.target):
                continue
            if relation.kind == "notesSlide":
                self._notes(relation.target)
            elif relation.kind == "comments":
                self._comments(relation.target)

    def _shape(self, shape: Shape, place: Place | None) -> None:
        """Add a shape. `place` is that of the outermost group: inner ones are relative to it."""
        if shape.role in _LEFT_OUT_ROLES:
            return
        boxes = () if place is None else (Box(self._number, *place),)
        if shape.kind == "grpSp":
            for inner in shape.shapes:
                self._shape(inner, place)
        elif shape.kind == "graphicFrame":
            self._frame(shape, boxes)
        elif shape.role in _TITLES:
            paragraphs = map(_paragraph_text, find_local(shape.element, "p"))
            text = " ".join(" ".join(paragraphs).split())
            self._builder.add("heading", text, level=1, page=self._number, boxes=boxes)
            self._builder.title = self._builder.title or text
        else:
            self._text(shape, boxes)

    def _text(self, shape: Shape, boxes: tuple[Box, ...]) -> None:
        counters: dict[int, int] = defaultdict(int)
        was_list = False
        for body in find_local(shape.element, "txBody"):
            for paragraph in body.findall(f"{A}p"):
                text = _paragraph_text(paragraph).strip()
                if not text:
                    continue
                level, mark = list_level(paragraph), bullet(paragraph, shape)
                for deeper in [n for n in counters if n > level or (mark is None and n == level)]:
                    del counters[deeper]
                if mark is None:
                    self._builder.add("paragraph", text, page=self._number, boxes=boxes)
                else:
                    text = f"{_marker(mark, counters, level)} {text}"
                    self._builder.add(
                        "list_item",
                        text,
                        level=level,
                        page=self._number,
                        boxes=boxes,
                        tight=was_list,
                    )
                was_list = mark is not None

    def _frame(self, shape: Shape, boxes: tuple[Box, ...]) -> None:
        for element in shape.element.iter():
            name = local_name(element)
            if name == "tbl":
                self._table(element, boxes)
            elif name == "chart" and f"{_R}id" in element.attrib:
                self._chart(element.get(f"{_R}id", ""), boxes)
            elif name == "relIds":
                self._diagram(element.get(f"{_R}dm", ""), boxes)

    def _table(self, table: Element, boxes: tuple[Box, ...]) -> None:
        rows = []
        for row in table.findall(f"{A}tr"):
            cells = row.findall(f"{A}tc")
            rows.append(["" if _is_covered(cell) else _cell_text(cell) for cell in cells])
        properties = table.find(f"{A}tblPr")
        has_header = properties is not None and properties.get("firstRow") in ("1", "true")
        header_rows = int(has_header and len(rows) > 1)
        self._builder.add_table(rows, header_rows=header_rows, page=self._number, boxes=boxes)

    def _chart(self, relation_id: str, boxes: tuple[Box, ...]) -> None:
        relation = self._relations.get(relation_id)
        if relation is None or not self._package.has(relation.target):
            return
        root = self._package.xml(relation.target)
        rows = chart_rows(root)
        if not rows:
            self._builder.warnings.append(f"A chart on slide {self._number} was not read.")
        self._builder.add("caption", chart_title(root), page=self._number, boxes=boxes)
        self._builder.add_table(rows, header_rows=1, page=self._number, boxes=boxes)

    def _diagram(self, relation_id: str, boxes: tuple[Box, ...]) -> None:
        relation = self._relations.get(relation_id)
        if relation is None or not self._package.has(relation.target):
            return
        for paragraph in find_local(self._package.xml(relation.target), "p"):
            text = _paragraph_text(paragraph).strip()
            self._builder.add("paragraph", text, page=self._number, boxes=boxes)

    def _notes(self, part: str) -> None:
        for element in find_local(self._package.xml(part), "sp"):
            mark = next(find_local(element, "ph"), None)
            if mark is not None and mark.get("type", "body") == "body":
                lines = map(_paragraph_text, find_local(element, "p"))
                self._builder.add("note", "\n".join(lines).strip(), page=self._number)

    def _comments(self, part: str) -> None:
        for comment in find_local(self._package.xml(part), "cm"):
            words = (e.text or "" for e in comment.iter() if local_name(e) in ("t", "text"))
            text = " ".join(" ".join(words).split())
            self._builder.add("note", f"Comment: {text}" if text else "", page=self._number)


def _paragraph_text(paragraph: Element) -> str:
    return "".join(_pieces(paragraph))


def _pieces(element: Element) -> Iterator[str]:
    for child in element:
        name = local_name(child)
        if name == "t":
            yield (child.text or "").replace("\v", "\n")
        elif name == "br":
            yield "\n"
        elif name == "tab":
            yield "\t"
        elif name in ("oMath", "oMathPara"):
            yield equation_text(child)
        elif name == "AlternateContent":
            for version in list(child)[:1]:
                yield from _pieces(version)
        elif not name.endswith("Pr"):
            yield from _pieces(child)


def _is_covered(cell: Element) -> bool:
    """Whether a merged cell covers this one."""
    return any(cell.get(key) in ("1", "true") for key in ("hMerge", "vMerge"))


def _cell_text(cell: Element) -> str:
    return " ".join(map(_paragraph_text, find_local(cell, "p")))


def _marker(mark: Element, counters: dict[int, int], level: int) -> str:
    if local_name(mark) != "buAutoNum":
        return "-"
    kind, start = mark.get("type", "arabicPeriod"), mark.get("startAt", "1")
    counters[level] += 1
    number = counters[level] + (int(start) if start.isdigit() else 1) - 1
    text = str(number)
    if kind.startswith("alpha"):
        letters = string.ascii_uppercase if kind.startswith("alphaUc") else string.ascii_lowercase
        text = letters[(number - 1) % 26]
    if kind.endswith("ParenBoth"):
        return f"({text})"
    return text + {"ParenR": ")", "Plain": ""}.get(kind[-6:] if "Paren" in kind else kind[-5:], ".")
