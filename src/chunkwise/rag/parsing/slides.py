"""Shapes of a slide: where they stand, in which order they are read, what they inherit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from chunkwise.rag.parsing.ooxml import Package, find_local, local_name

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_SHAPES = frozenset(("sp", "pic", "graphicFrame", "grpSp", "cxnSp", "contentPart"))
_POINT_EMU = 12700
_BULLETS = frozenset(("buNone", "buChar", "buAutoNum", "buBlip"))
# What a placeholder's kind is called where it inherits from, if that differs.
_BASE_KINDS = {"ctrTitle": "title", "subTitle": "body", "": "body", "obj": "body"}


class Place(NamedTuple):
    """A rectangle on the slide, in points from its top left corner."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape of a slide.

    Attributes:
        element: Its XML.
        kind: Name of the XML element: `sp`, `pic`, `graphicFrame`, `grpSp` ...
        role: Kind of placeholder (`title`, `body` ...); empty if it is none.
        place: Where it stands; None if nothing says.
        styles: List styles that hold for its text, nearest first.
        shapes: Shapes of a group.
    """

    element: Element
    kind: str
    role: str = ""
    place: Place | None = None
    styles: tuple[Element, ...] = ()
    shapes: tuple[Shape, ...] = ()


@dataclass(slots=True)
class _Placeholder:
    """A placeholder of a layout or master."""

    place: Place | None
    styles: tuple[Element, ...]


@dataclass(slots=True)
class _Base:
    """What slides inherit from a layout or master: placeholders by index and by kind."""

    by_index: dict[str, _Placeholder] = field(default_factory=dict)
    by_kind: dict[str, _Placeholder] = field(default_factory=dict)
    text_styles: dict[str, Element] = field(default_factory=dict)


class Layouts:
    """Layouts and masters of a presentation, each read once."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._bases: dict[str, _Base] = {}

    def shapes(self, part: str, root: Element) -> list[Shape]:
        """The shapes of a slide in reading order.

        Args:
            part: Name of the slide's part.
            root: Its XML.
        """
        tree = next(find_local(root, "spTree"), None)
        if tree is None:
            return []
        layout = self._related(part, "slideLayout")
        master = self._related(layout, "slideMaster")
        bases = [self._base(name) for name in (layout, master) if name]
        return in_reading_order([_shape(element, bases) for element in _children(tree)])

    def _related(self, part: str, kind: str) -> str:
        targets = (r.target for r in self._package.relations(part).values() if r.kind == kind)
        return next((t for t in targets if self._package.has(t)), "") if part else ""

    def _base(self, part: str) -> _Base:
        if part not in self._bases:
            self._bases[part] = _read_base(self._package.xml(part))
        return self._bases[part]


def in_reading_order(shapes: Sequence[Shape]) -> list[Shape]:
    """Titles first, then rows from the top, each row from the left; unplaced shapes last."""
    titles = [s for s in shapes if s.role in ("title", "ctrTitle")]
    placed = [(s.place, s) for s in shapes if s.place is not None and s not in titles]
    rest = [s for s in shapes if s.place is None and s not in titles]
    placed.sort(key=lambda pair: pair[0].y0)
    rows: list[list[tuple[Place, Shape]]] = []
    for place, shape in placed:
        # A shape belongs to the row whose first shape its middle is beside.
        middle = (place.y0 + place.y1) / 2
        if rows and middle <= rows[-1][0][0].y1:
            rows[-1].append((place, shape))
        else:
            rows.append([(place, shape)])
    ordered = [shape for row in rows for _, shape in sorted(row, key=_column_key)]
    return [*titles, *ordered, *rest]


def _column_key(pair: tuple[Place, Shape]) -> tuple[int, float]:
    place, _ = pair
    return round(place.x0 / 36), place.y0  # boxes of a column need not align to the point


def _children(tree: Element) -> Iterator[Element]:
    for child in tree:
        name = local_name(child)
        if name in _SHAPES:
            yield child
        elif name == "AlternateContent":
            for version in list(child)[:1]:
                yield from _children(version)


def _shape(element: Element, bases: list[_Base]) -> Shape:
    kind = local_name(element)
    place = _place(element)
    if kind == "grpSp":
        inner = in_reading_order([_shape(child, bases) for child in _children(element)])
        return Shape(element, kind, place=place, shapes=tuple(inner))
    mark = next(find_local(element, "ph"), None)
    own = tuple(_list_styles(element))
    if mark is None:
        return Shape(element, kind, "", place, own)
    role = mark.get("type", "")
    inherited = [p for p in (_match(base, mark) for base in bases) if p is not None]
    place = place or next((p.place for p in inherited if p.place is not None), None)
    styles = [*own, *(style for p in inherited for style in p.styles)]
    style_name = "titleStyle" if "itle" in role and role != "subTitle" else "bodyStyle"
    styles += [base.text_styles[style_name] for base in bases if style_name in base.text_styles]
    return Shape(element, kind, role or "body", place, tuple(styles))


def _match(base: _Base, mark: Element) -> _Placeholder | None:
    kind = mark.get("type", "")
    by_kind = base.by_kind.get(_BASE_KINDS.get(kind, kind))
    return base.by_index.get(mark.get("idx", ""), by_kind)


def _read_base(root: Element) -> _Base:
    base = _Base()
    for element in find_local(root, "sp"):
        mark = next(find_local(element, "ph"), None)
        if mark is None:
            continue
        placeholder = _Placeholder(_place(element), tuple(_list_styles(element)))
        kind = mark.get("type", "")
        base.by_kind.setdefault(_BASE_KINDS.get(kind, kind), placeholder)
        if "idx" in mark.attrib:
            base.by_index[mark.get("idx", "")] = placeholder
    for styles in find_local(root, "txStyles"):
        base.text_styles = {local_name(style): style for style in styles}
    return base


def _list_styles(element: Element) -> Iterator[Element]:
    return find_local(element, "lstStyle")


def _place(element: Element) -> Place | None:
    """The place said by the shape itself, in points of what it stands in."""
    for properties in element:
        frame = properties if local_name(properties) == "xfrm" else properties.find(f"{A}xfrm")
        if frame is None or not local_name(properties).endswith(("Pr", "xfrm")):
            continue
        offset, extent = frame.find(f"{A}off"), frame.find(f"{A}ext")
        if offset is not None and extent is not None:
            x, y = (int(offset.get(k, "0")) / _POINT_EMU for k in ("x", "y"))
            width, height = (int(extent.get(k, "0")) / _POINT_EMU for k in ("cx", "cy"))
            return Place(x, y, x + width, y + height)
    return None


def bullet(paragraph: Element, shape: Shape) -> Element | None:
    """The bullet or automatic number of a paragraph; None if it has none."""
    properties = paragraph.find(f"{A}pPr")
    level = list_level(paragraph)
    sources = [properties, *(s.find(f"{A}lvl{level}pPr") for s in shape.styles)]
    for source in sources:
        for child in () if source is None else source:
            if local_name(child) in _BULLETS:
                return None if local_name(child) == "buNone" else child
    return None


def list_level(paragraph: Element) -> int:
    """Level of a paragraph, from 1."""
    properties = paragraph.find(f"{A}pPr")
    value = "0" if properties is None else properties.get("lvl", "0")
    return int(value) + 1 if value.isdigit() else 1
