"""What the styles and numbering of a Word document say about its paragraphs."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_HEADING_NAME = re.compile(
    r"(?:heading|überschrift|titre|título|titulo|titolo|rubrik|overskrift|kop|nagłówek|otsikko|"
    r"заголовок|标题|標題|見出し|제목)\s*([1-9])$"
)
_CODE_NAMES = frozenset(
    [
        "code",
        "source code",
        "code block",
        "codeblock",
        "source text",
        "html preformatted",
        "preformatted text",
        "preformatted",
        "verbatim",
        "macro text",
        "listing",
        "program listing",
        "sourcecode",
        "codesnippet",
    ]
)
_QUOTE_NAMES = frozenset(("quote", "intense quote", "block text", "quotations", "quotation"))
_MONOSPACED = re.compile(
    r"courier|consolas|monaco|menlo|lucida console|mono\b|typewriter|cascadia code|source code",
    re.I,
)
_ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"),
          (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))  # fmt: skip


@dataclass(slots=True)
class Style:
    """A paragraph or character style with what it inherits.

    Attributes:
        names: Its own name and those of the styles it is based on, lower case.
        outline: Outline level from 0; 9 means body text; None: nothing is said.
        numbering: Id of its list, level; None: nothing is said.
        is_monospaced: Whether its font has one width; None: nothing is said.
        is_hidden: Text in it is not shown.
    """

    names: tuple[str, ...] = ()
    outline: int | None = None
    numbering: tuple[str, int] | None = None
    is_monospaced: bool | None = None
    is_hidden: bool = False

    def heading_level(self) -> int:
        """Depth from 1 if paragraphs in it are headings, else 0."""
        if self.outline is not None:
            return self.outline + 1 if self.outline < 9 else 0
        found = (_HEADING_NAME.match(name) for name in self.names)
        return next((int(match[1]) for match in found if match), 0)

    def is_any(self, names: frozenset[str]) -> bool:
        """Whether it or a style it is based on has one of the names."""
        return any(name in names for name in self.names)

    @property
    def is_title(self) -> bool:
        """Whether it is the style of the document's title."""
        return self.is_any(frozenset(("title",)))

    @property
    def is_code(self) -> bool:
        """Whether it is for source code."""
        return self.is_any(_CODE_NAMES)

    @property
    def is_quote(self) -> bool:
        """Whether it is for quotations."""
        return self.is_any(_QUOTE_NAMES)

    @property
    def is_caption(self) -> bool:
        """Whether it is for captions."""
        return self.is_any(frozenset(("caption",)))


class Styles:
    """The styles of a document by id.

    Args:
        root: Root of `styles.xml`, or None.
    """

    def __init__(self, root: Element | None) -> None:
        elements = [] if root is None else root.findall(f"{W}style")
        self._elements = {element.get(f"{W}styleId", ""): element for element in elements}
        self._cache: dict[str, Style] = {"": Style()}
        self.default = self._default(elements)

    def get(self, style_id: str) -> Style:
        """A style; an unknown id has the plain one."""
        if style_id not in self._cache:
            self._cache[style_id] = Style()  # ends a chain that runs in a circle
            if style_id in self._elements:
                self._cache[style_id] = self._resolve(self._elements[style_id], style_id)
        return self._cache[style_id]

    def _default(self, elements: list[Element]) -> str:
        for element in elements:
            if element.get(f"{W}type") == "paragraph" and is_on(element.get(f"{W}default", "0")):
                return element.get(f"{W}styleId", "")
        return ""

    def _resolve(self, element: Element, style_id: str) -> Style:
        base = self.get(value_of(element, "basedOn"))
        properties = element.find(f"{W}pPr")
        outline = outline_of(properties)
        monospaced = font_is_monospaced(element.find(f"{W}rPr"))
        own_name = value_of(element, "name").lower() or style_id.lower()
        # A style named "heading 2" but based on "heading 1" must not inherit level 1.
        named = Style(names=(own_name,)).heading_level()
        inherited = named - 1 if named else base.outline
        return Style(
            (own_name, *base.names),
            outline if outline is not None else inherited,
            numbering_of(properties, base.numbering),
            base.is_monospaced if monospaced is None else monospaced,
            is_hidden(element.find(f"{W}rPr")) or base.is_hidden,
        )


@dataclass(slots=True)
class _Level:
    kind: str = "decimal"
    text: str = "%1."
    start: int = 1


@dataclass(slots=True)
class _List:
    abstract: str = ""
    levels: dict[int, _Level] = field(default_factory=dict)
    restarts: dict[int, int] = field(default_factory=dict)


class Numbering:
    """Counts the numbers in front of list items and headings.

    Args:
        root: Root of `numbering.xml`, or None.
    """

    def __init__(self, root: Element | None) -> None:
        self._lists: dict[str, _List] = {}
        self._counters: dict[str, dict[int, int]] = defaultdict(dict)
        self._restarted: set[tuple[str, int]] = set()
        if root is not None:
            abstracts = {e.get(f"{W}abstractNumId", ""): e for e in root.findall(f"{W}abstractNum")}
            for element in root.findall(f"{W}num"):
                self._lists[element.get(f"{W}numId", "")] = _read_list(element, abstracts)

    def marker(self, list_id: str, depth: int) -> str:
        """The marker of the next item: `-` for a bullet, a number, or nothing.

        Args:
            list_id: The list.
            depth: Level of the item, from 0.
        """
        if list_id not in self._lists:
            return "-"
        found = self._lists[list_id]
        level = found.levels.get(depth, _Level())
        self._count(list_id, found, depth)
        if level.kind in ("bullet", "none"):
            return "-" if level.kind == "bullet" else ""
        counters = self._counters[found.abstract]

        def number(match: re.Match[str]) -> str:
            other = int(match[1]) - 1
            kind = found.levels.get(other, _Level()).kind
            return _format(counters.get(other, 1), kind)

        return re.sub(r"%([1-9])", number, level.text).strip()

    def _count(self, list_id: str, found: _List, depth: int) -> None:
        # Lists made of one definition go on counting, unless one says where it starts anew.
        counters = self._counters[found.abstract]
        restart = found.restarts.get(depth)
        if restart is not None and (list_id, depth) not in self._restarted:
            self._restarted.add((list_id, depth))
            counters[depth] = restart
        elif depth in counters:
            counters[depth] += 1
        else:
            counters[depth] = found.levels.get(depth, _Level()).start
        for above in range(depth):
            counters.setdefault(above, found.levels.get(above, _Level()).start)
        for deeper in [d for d in counters if d > depth]:
            del counters[deeper]


def _read_list(element: Element, abstracts: dict[str, Element]) -> _List:
    found = _List(value_of(element, "abstractNumId"))
    if found.abstract in abstracts:
        _read_levels(abstracts[found.abstract], found)
    for override in element.findall(f"{W}lvlOverride"):
        depth = int(override.get(f"{W}ilvl", "0"))
        start = value_of(override, "startOverride")
        if start.isdigit():
            found.restarts[depth] = int(start)
        _read_levels(override, found)
    return found


def _read_levels(parent: Element, found: _List) -> None:
    for element in parent.findall(f"{W}lvl"):
        start = value_of(element, "start")
        depth = int(element.get(f"{W}ilvl", "0"))
        found.levels[depth] = _Level(
            value_of(element, "numFmt") or "decimal",
            value_of(element, "lvlText"),
            int(start) if start.isdigit() else 1,
        )


def _format(number: int, kind: str) -> str:
    if kind in ("lowerLetter", "upperLetter"):
        letter = chr(ord("a") + (number - 1) % 26) * ((number - 1) // 26 + 1)
        return letter.upper() if kind == "upperLetter" else letter
    if kind in ("lowerRoman", "upperRoman"):
        roman = _roman(number)
        return roman.upper() if kind == "upperRoman" else roman
    return f"{number:02}" if kind == "decimalZero" else "" if kind == "none" else str(number)


def _roman(number: int) -> str:
    digits = []
    for value, digit in _ROMAN:
        count, number = divmod(number, value)
        digits.append(digit * min(count, 10))
    return "".join(digits)


def value_of(element: Element | None, name: str) -> str:
    """The `w:val` of a child, or nothing."""
    child = None if element is None else element.find(W + name)
    return "" if child is None else child.get(f"{W}val", "")


def is_on(value: str) -> bool:
    """Whether an on/off value is on."""
    return value.lower() not in ("0", "false", "off", "none")


def is_hidden(run_properties: Element | None) -> bool:
    """Whether text with these properties is not shown."""
    found = None if run_properties is None else run_properties.find(f"{W}vanish")
    return found is not None and is_on(found.get(f"{W}val", "1"))


def outline_of(properties: Element | None) -> int | None:
    """Outline level said by paragraph properties."""
    value = value_of(properties, "outlineLvl")
    return int(value) if value.isdigit() else None


def numbering_of(
    properties: Element | None, inherited: tuple[str, int] | None
) -> tuple[str, int] | None:
    """List id and level said by paragraph properties; each part may be inherited alone."""
    found = None if properties is None else properties.find(f"{W}numPr")
    if found is None:
        return inherited
    list_id, depth = value_of(found, "numId"), value_of(found, "ilvl")
    before = inherited or ("", 0)
    return list_id or before[0], int(depth) if depth.isdigit() else before[1]


def font_is_monospaced(run_properties: Element | None) -> bool | None:
    """Whether the font said by run properties has one width; None if none is said."""
    fonts = None if run_properties is None else run_properties.find(f"{W}rFonts")
    font = None if fonts is None else fonts.get(f"{W}ascii") or fonts.get(f"{W}hAnsi")
    return bool(_MONOSPACED.search(font)) if font else None
