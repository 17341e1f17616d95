"""XML: feeds by item, JATS articles by section, anything else by its elements."""

from __future__ import annotations

import html.entities
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing.base import DocumentBuilder, parsers
from chunkwise.rag.parsing.encodings import decode
from chunkwise.types import Document

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["XmlParser"]

_ENCODING = re.compile(rb"^\s*<\?xml[^>]{0,100}?encoding=[\"']([\w.:-]+)")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_MAX_DEPTH = 200
_JATS_ROOTS = ("article", "pmc-articleset", "book-part")
_SECTIONS = ("sec", "app", "ack", "ref-list", "fn-group", "boxed-text", "notes", "glossary")
_BODY_TAGS = ("encoded", "content", "description", "summary")  # of a feed's item, best first
_SEPARATE = frozenset({"p", "title", "label", "caption", "list", "list-item", "td", "break", "fn"})
_PERSONS = ("name", "collab", "string-name")
_CITED = frozenset(
    {"article-title", "chapter-title", "data-title", "fpage", "lpage", "elocation-id", "volume"}
    | {"year", "source", "pub-id", "person-group", "issue", *_PERSONS}
)
_MARKUP = re.compile(r"<[a-zA-Z/][^>]*>|&\w+;|&#\d+;")


@dataclass(frozen=True)
class XmlParser:
    """Entities are expanded only where they are harmless; nothing outside the file is read."""

    suffixes: ClassVar[tuple[str, ...]] = (".xml", ".rss", ".atom", ".nxml")

    def parse(self, data: bytes, *, name: str) -> Document:
        """Parse a whole file.

        Raises:
            DocumentError: It is not well-formed, nested too deep, or declares entities.
        """
        root = _tree(data, name)
        builder = DocumentBuilder(name)
        kind = _tag(root)
        if kind in ("rss", "feed", "RDF") and _items(root):
            _Feed(builder).write(root)
        elif kind in _JATS_ROOTS and _first(root, "body", "abstract") is not None:
            _Article(builder).write(root)
        else:
            _write_elements(builder, root)
        return builder.build()


def _tree(data: bytes, name: str) -> Element:
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser

    named = _ENCODING.match(data[:200])
    text = decode(data, name=name, declared=named[1].decode() if named else None)
    # The text is decoded already: expat is not to see which encoding it had.
    source = _DECLARATION.sub("", text).lstrip()
    parser = DefusedXMLParser(forbid_dtd=False, forbid_entities=True, forbid_external=True)
    parser.entity.update(html.entities.entitydefs)
    try:
        parser.feed(source)
        root: Element = parser.close()
    except DefusedXmlException as exc:
        raise DocumentError(name, f"declares entities, which are not expanded: {exc}.") from exc
    except (ParseError, ValueError) as exc:
        raise DocumentError(name, f"is not well-formed XML: {exc}.") from exc
    if _depth(root) > _MAX_DEPTH:
        raise DocumentError(name, f"is nested deeper than {_MAX_DEPTH} elements.")
    return root


def _depth(root: Element) -> int:
    deepest, stack = 0, [(root, 1)]
    while stack:
        node, depth = stack.pop()
        deepest = max(deepest, depth)
        stack.extend((child, depth + 1) for child in node)
    return deepest


class _Feed:
    """RSS and Atom: a heading and a body for each item."""

    def __init__(self, builder: DocumentBuilder) -> None:
        self.builder = builder

    def write(self, root: Element) -> None:
        """Write the whole feed."""
        channel = next((node for node in root if _tag(node) == "channel"), root)
        self.builder.title = _field(channel, "title")
        self.builder.add("heading", self.builder.title, level=1)
        about = _field(channel, "description") or _field(channel, "subtitle")
        self._add_body(about)
        for item in _items(root):
            self.builder.add("heading", _field(item, "title"), level=2)
            facts = [_field(item, "creator") or _field(item, "author")]
            facts.append(_field(item, "pubDate") or _field(item, "published", "updated", "date"))
            facts.append(", ".join(_text(node) for node in item if _tag(node) == "category"))
            self.builder.add("paragraph", "\n".join(fact for fact in facts if fact))
            self._add_body(*_bodies(item))

    def _add_body(self, *candidates: str) -> None:
        """The fullest of the forms of a body; HTML in it is read as such."""
        source = max(candidates, key=len, default="")
        if _MARKUP.search(source):
            page = f"<body>{source}</body>".encode()
            self.builder.add_document(parsers.load("html")().parse(page, name=self.builder.name))
        else:
            self.builder.add("paragraph", " ".join(source.split()))


def _items(root: Element) -> list[Element]:
    return [node for node in root.iter() if _tag(node) in ("item", "entry")]


def _bodies(item: Element) -> Iterator[str]:
    for tag in _BODY_TAGS:
        for node in item:
            if _tag(node) == tag:
                yield "".join(node.itertext())


def _field(node: Element, *tags: str) -> str:
    """Text of the first child with one of the tags."""
    return next((_text(child) for tag in tags for child in node if _tag(child) == tag), "")


class _Article:
    """JATS, the format of journal archives."""

    def __init__(self, builder: DocumentBuilder) -> None:
        self.builder = builder

    def write(self, root: Element) -> None:
        """Write the whole article: front, body, back."""
        front = _first(root, "front", "front-stub")
        if front is not None:
            self._front(front)
        for part in ("body", "back", "floats-group"):
            node = _first(root, part)
            if node is not None:
                self._children(node, 1)

    def _front(self, front: Element) -> None:
        title = _first(front, "article-title")
        self.builder.title = _text(title)
        self.builder.add("heading", self.builder.title, level=1)
        people = [node for node in front.iter() if _tag(node) == "contrib"]
        others = [p for p in people if p.get("contrib-type", "author") != "author"]
        names = [_person(n) for p in people if p not in others for n in _names(p)]
        self.builder.add("paragraph", ", ".join(names))
        if names:
            self.builder.metadata["author"] = ", ".join(names)
        elsewhere = [node for person in others for node in person.iter()]
        affiliations = (n for n in front.iter() if _tag(n) == "aff" and n not in elsewhere)
        places = [_affiliation(node) for node in affiliations]
        self.builder.add("paragraph", "; ".join(dict.fromkeys(p for p in places if p)))
        for node in front.iter():
            if _tag(node) == "article-id":
                self.builder.metadata.setdefault(node.get("pub-id-type", "id"), _text(node))
            elif _tag(node) in ("abstract", "trans-abstract"):
                self._abstract(node)
        words = [_text(node) for node in front.iter() if _tag(node) == "kwd"]
        if words:
            self.builder.metadata["keywords"] = ", ".join(words)

    def _abstract(self, node: Element) -> None:
        if not any(_tag(child) == "title" for child in node):
            self.builder.add("heading", "Abstract", level=2)
        self._children(node, 1)

    def _children(self, node: Element, depth: int) -> None:
        for child in node:
            self._element(child, depth)

    def _element(self, node: Element, depth: int) -> None:
        tag = _tag(node)
        if tag == "title":
            self.builder.add("heading", _text(node), level=min(6, depth + 1))
        elif tag in (
            "sec",
            "app",
            "ack",
            "ref-list",
            "fn-group",
            "boxed-text",
            "notes",
            "glossary",
        ):
            self._section(node, depth)
        elif tag == "p":
            self._paragraph(node, depth)
        elif tag == "list":
            self._list(node, 1)
        elif tag in ("table-wrap", "fig", "media", "supplementary-material"):
            self._float(node)
        elif tag == "table":
            self._table(node)
        elif tag == "ref":
            self.builder.add("list_item", _reference(node), level=1, tight=True)
        elif tag in ("preformat", "code"):
            self.builder.add("code", "".join(node.itertext()))
        elif tag == "disp-quote":
            self.builder.add("quote", _text(node))
        elif any(_tag(child) in ("p", "sec", "title", "fn", "ref") for child in node):
            self._children(node, depth)
        else:
            self.builder.add("paragraph", _text(node))

    def _section(self, node: Element, depth: int) -> None:
        titles = {"ref-list": "References", "ack": "Acknowledgements"}
        tag = _tag(node)
        if tag in titles and not any(_tag(child) == "title" for child in node):
            self.builder.add("heading", titles[tag], level=min(6, depth + 1))
        inner = depth if tag == "fn-group" else depth + 1
        for child in node:
            self._element(child, depth if _tag(child) == "title" else inner)

    def _paragraph(self, node: Element, depth: int) -> None:
        """A paragraph; tables, figures and lists inside of it follow it."""
        inside = ("list", "table-wrap", "fig", "boxed-text", "preformat", "disp-quote")
        held = [child for child in node if _tag(child) in inside]
        self.builder.add("paragraph", _text(node, without=inside))
        for child in held:
            self._element(child, depth)

    def _list(self, node: Element, level: int) -> None:
        for number, item in enumerate((c for c in node if _tag(c) == "list-item"), 1):
            marker = f"{number}. " if node.get("list-type") == "order" else "- "
            text = _text(item, without=("list",))
            self.builder.add("list_item", marker + text, level=level, tight=number > 1 or level > 1)
            for inner in item.iter():
                if _tag(inner) == "list":
                    self._list(inner, level + 1)
                    break

    def _float(self, node: Element) -> None:
        parts = [child for child in node.iter() if _tag(child) in ("label", "caption")]
        texts = [_text(part) for part in parts if not _is_inside(part, node, "table")]
        self.builder.add("caption", " ".join(text for text in texts if text))
        for table in (t for t in node.iter() if _tag(t) == "table"):
            self._table(table)
        for foot in (f for f in node.iter() if _tag(f) == "table-wrap-foot"):
            self.builder.add("note", _text(foot))

    def _table(self, table: Element) -> None:
        head = sum(len(list(_rows(part))) for part in table if _tag(part) == "thead")
        rows = [_cells(row) for row in _rows(table)]
        self.builder.add_table(rows, header_rows=head)


def _is_inside(node: Element, root: Element, tag: str) -> bool:
    return any(node is inner for t in root.iter() if _tag(t) == tag for inner in t.iter())


def _rows(part: Element) -> Iterator[Element]:
    return (node for node in part.iter() if _tag(node) == "tr")


def _cells(row: Element) -> list[str]:
    cells = [cell for cell in row if _tag(cell) in ("td", "th")]
    line: list[str] = []
    for cell in cells:
        span = cell.get("colspan", "1")
        line += [_text(cell)] * (int(span) if span.isdigit() and len(cells) > 1 else 1)
    return line


def _names(contributor: Element) -> Iterator[Element]:
    return (node for node in contributor if _tag(node) in _PERSONS)


def _person(node: Element) -> str:
    given, surname = _field(node, "given-names"), _field(node, "surname")
    return f"{given} {surname}".strip() or _text(node)


def _affiliation(node: Element) -> str:
    return re.sub(r"\s+([,;])", r"\1", _text(node, without=("label",))).strip(" ,;")


def _reference(node: Element) -> str:
    """A reference on one line; the fields of an element citation get their punctuation."""
    citation = _first(node, "element-citation")
    if citation is None:
        return _text(node, without=("label",))
    authors = ", ".join(_author(n) for n in citation.iter() if _tag(n) in _PERSONS)
    title = _field(citation, "article-title", "chapter-title", "data-title")
    pages = "–".join(filter(None, (_field(citation, "fpage"), _field(citation, "lpage"))))
    pages = pages or _field(citation, "elocation-id")
    issue = ":".join(filter(None, (_field(citation, "volume"), pages)))
    year = _field(citation, "year")
    source = " ".join(filter(None, (_field(citation, "source"), issue, year and f"({year})")))
    ids = [
        f"{c.get('pub-id-type', 'id').upper()}: {_text(c)}" for c in citation if _tag(c) == "pub-id"
    ]
    rest = [_text(c) for c in citation if _tag(c) not in _CITED]
    return ". ".join(part for part in (authors, title, source, *rest, ", ".join(ids)) if part)


def _author(node: Element) -> str:
    return f"{_field(node, 'surname')} {_field(node, 'given-names')}".strip() or _text(node)


def _write_elements(builder: DocumentBuilder, root: Element) -> None:
    """Unknown XML: a paragraph for each element with text; short fields share one."""
    lines: list[str] = []

    def flush() -> None:
        builder.add("paragraph", "\n".join(lines))
        lines.clear()

    stack = [(root, False)]
    while stack:
        node, is_leaving = stack.pop()
        has_text = (node.text or "").strip() or any((c.tail or "").strip() for c in node)
        if is_leaving:
            flush()
        elif len(node) and not has_text:
            flush()
            lines += _attributes(node)
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(list(node)))
        elif len(node):
            flush()
            builder.add("paragraph", _text(node))
        else:
            facts = [*_attributes(node), _text(node)]
            line = " ".join(fact for fact in facts if fact)
            lines += [f"{_tag(node)}: {line}"] if line else []
    flush()


def _attributes(node: Element) -> list[str]:
    pairs = [f"{_local(key)}={value}" for key, value in node.attrib.items() if value.strip()]
    return [", ".join(pairs)] if pairs else []


def _first(root: Element, *tags: str) -> Element | None:
    return next((node for node in root.iter() if _tag(node) in tags), None)


def _tag(node: Element) -> str:
    return _local(node.tag) if isinstance(node.tag, str) else ""  # comments have a function


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _has_no_own_text(node: Element) -> bool:
    """Whether a node only holds elements, which then are fields and not running text."""
    texts = (node.text, *(child.tail for child in node))
    return len(node) > 1 and not any((text or "").strip() for text in texts)


def _power(node: Element) -> str:
    """A sign before a number set high, as in 10<sup>6</sup>, which else reads as 106."""
    is_number = _tag(node) == "sup" and re.fullmatch(r"[-−–+]?\d+", node.text or "")
    return "^" if is_number and len(node) == 0 else ""


def _text(node: Element | None, without: tuple[str, ...] = ()) -> str:
    """Text of an element on one line; some elements in it may be left out."""
    if node is None:
        return ""
    parts: list[str] = []
    stack: list[Element | str] = [node]
    while stack:
        top = stack.pop()
        if isinstance(top, str):
            parts.append(top)
            continue
        parts.append(top.text or "")
        apart = _has_no_own_text(top)
        for child in reversed(top):
            stack.append(child.tail or "")
            if _tag(child) not in without:
                stack.append(child)
                stack.append(" " if apart or _tag(child) in _SEPARATE else _power(child))
    return " ".join("".join(parts).split())
