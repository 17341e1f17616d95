"""HTML pages: the visible text in reading order, without navigation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from chunkwise.rag.parsing.base import DocumentBuilder
from chunkwise.rag.parsing.encodings import decode
from chunkwise.types import BlockKind, Document

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

__all__ = ["HtmlParser"]

_CHARSET = re.compile(
    rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)|^\s*<\?xml[^>]{0,100}?encoding=[\"']([\w.:-]+)",
    re.I,
)
_NEVER_SHOWN = (
    "script, style, template, noscript, head, iframe, object, embed, canvas, svg, audio, video, "
    "map, button, select, datalist, textarea, dialog:not([open]), [hidden], [aria-hidden=true], "
    ".mw-editsection, .headerlink, .mw-jump-link, .sr-only, .visually-hidden"
)
_AROUND = (
    "nav, [role=navigation], [role=contentinfo], "
    "footer:not(article footer, main footer, section footer, blockquote footer)"
)
_INVISIBLE_STYLE = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.I)
_BLOCKS = frozenset(
    re.findall(
        r"\w+",
        "address article aside blockquote body caption center dd details dialog dir div dl dt "
        "fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend "
        "li main menu nav ol optgroup option p pre search section summary table tbody td tfoot "
        "th thead tr ul",
    )
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_LISTS = frozenset({"ul", "ol", "menu", "dir"})
_VOID = "area|base|br|col|embed|hr|img|input|link|meta|param|source|track|wbr"
_SELF_CLOSED = re.compile(rf"<(?!(?:{_VOID})\b)([a-zA-Z][\w:-]*)((?:\s[^<>]*?)?)/>")
_SPACE = re.compile(r"[ \t\n\r\f\xa0]+")
_SOFT = str.maketrans("", "", "\xad\u200b\u2060\ufeff")
_MAX_SPAN = 100  # a colspan or rowspan beyond that is a mistake of the page
_MIN_MAIN_CHARS = 200
_MAX_OUTSIDE_RATIO = 0.25
_METADATA = {
    "description": "description",
    "og:description": "description",
    "author": "author",
    "dc.creator": "author",
    "article:author": "author",
    "date": "date",
    "dc.date": "date",
    "article:published_time": "date",
    "keywords": "keywords",
}


@dataclass(frozen=True)
class HtmlParser:
    """Headings, paragraphs, lists, tables, code and quotes of a page."""

    suffixes: ClassVar[tuple[str, ...]] = (".html", ".htm", ".xhtml", ".xht")

    def parse(self, data: bytes, *, name: str) -> Document:
        """Parse a whole file.

        Raises:
            DocumentError: The bytes are no text.
        """
        document = _read(data, name, is_whole=False)
        return document if document.blocks else _read(data, name, is_whole=True)


def _read(data: bytes, name: str, *, is_whole: bool) -> Document:
    from selectolax.lexbor import LexborHTMLParser

    named = _CHARSET.search(data[:4096])
    declared = (named[1] or named[2]).decode() if named else None
    source = decode(data, name=name, declared=declared)
    if "http://www.w3.org/1999/xhtml" in source[:4096]:
        source = _SELF_CLOSED.sub(r"<\1\2></\1>", source)  # HTML would take them as left open
    tree = LexborHTMLParser(source)
    builder = DocumentBuilder(name)
    _describe(tree, builder)
    for node in tree.css(_NEVER_SHOWN if is_whole else f"{_NEVER_SHOWN}, {_AROUND}"):
        node.decompose()
    for menu in tree.css("ul"):
        if len(menu.css("a[hreflang]")) >= max(5, len(menu.css("li"))):
            menu.decompose()  # the page in other languages
    if tree.body is not None:
        _Writer(builder).walk(_content(tree.body))
    if not builder.title:
        builder.title = next((t for t in map(_flat, tree.css("h1")) if t), "")
    return builder.build()


def _describe(tree: LexborHTMLParser, builder: DocumentBuilder) -> None:
    """Title and metadata of the page, from its head."""
    title = tree.css_first("title")
    builder.title = _collapse(title.text()) if title else ""
    for meta in tree.css("meta[content]"):
        label = (meta.attributes.get("name") or meta.attributes.get("property") or "").lower()
        value = _collapse(meta.attributes.get("content") or "")
        if label in _METADATA and value:
            builder.metadata.setdefault(_METADATA[label], value)
    language = tree.root.attributes.get("lang") if tree.root else None
    if language:
        builder.metadata["language"] = language


def _content(body: LexborNode) -> LexborNode:
    """The main part, if next to nothing but links stands outside of it; else the body."""
    mains = body.css("main, [role=main]")
    if len(mains) != 1:
        return body
    inside, outside = _num_chars(mains[0]), _num_chars(body)
    outside_ratio = (outside - inside) / max(1, inside)
    return mains[0] if inside >= _MIN_MAIN_CHARS and outside_ratio < _MAX_OUTSIDE_RATIO else body


def _num_chars(node: LexborNode) -> int:
    """Characters that are not in links."""
    total = len(_collapse(node.text()))
    return total - sum(len(_collapse(link.text())) for link in node.css("a"))


class _Writer:
    """Walks over a tree without recursion and writes its blocks."""

    def __init__(self, builder: DocumentBuilder) -> None:
        self.builder = builder
        self.parts: list[str] = []  # inline text of the block being read
        self.lists: list[int | None] = []  # next number of each open list; None: bullets
        self.marker = ""  # of the list item that has no text yet
        self.is_tight = False
        self.heading = self.quotes = self.terms = 0
        self.caption = False

    def walk(self, root: LexborNode) -> None:
        """Write all blocks under a node."""
        stack = [(root, False)]
        while stack:
            node, is_leaving = stack.pop()
            if is_leaving:
                self._leave(node)
            elif node.is_text_node:
                self.parts.append(node.text_content or "")
            elif node.is_element_node and not _is_hidden(node) and self._enter(node):
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(list(_children(node))))
        self._flush()

    def _enter(self, node: LexborNode) -> bool:
        """Begin an element; False if nothing is left to walk over in it."""
        tag = node.tag or ""
        if tag in ("br", "img", "math", "wbr"):
            self.parts.append(_inline(node))
            return False
        if tag not in _BLOCKS:
            if tag == "sup" and _is_exponent(self.parts, node):
                self.parts.append("^")
            return True
        if self.heading:
            self.parts.append(" ")
            return tag != "table"
        self._flush()
        if tag == "pre":
            self.builder.add("code", _verbatim(node), name=_language(node))
            return False
        if tag == "table" and not _is_layout(node):
            self._table(node)
            return False
        self._open(tag, node)
        return True

    def _open(self, tag: str, node: LexborNode) -> None:
        if tag in _LISTS:
            start = node.attributes.get("start") or "1"
            self.lists.append((int(start) if start.isdigit() else 1) if tag == "ol" else None)
        elif tag == "li":
            self.marker = self._next_marker(node)
        self.heading = _HEADINGS.get(tag, self.heading)
        self.quotes += tag == "blockquote"
        self.terms += tag in ("dt", "dd")
        self.caption = self.caption or tag in ("figcaption", "caption")

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag not in _BLOCKS or (self.heading and tag not in _HEADINGS):
            return
        self._flush(is_term=tag == "dt")
        if tag in _LISTS and self.lists:
            self.lists.pop()
            self.marker = ""
        elif tag in _HEADINGS:
            self.heading = 0
        self.quotes -= tag == "blockquote"
        self.terms -= tag in ("dt", "dd")
        self.caption = self.caption and tag not in ("figcaption", "caption")

    def _next_marker(self, node: LexborNode) -> str:
        if not self.lists or self.lists[-1] is None:
            return "- "
        value = node.attributes.get("value") or ""
        number = int(value) if value.isdigit() else self.lists[-1]
        self.lists[-1] = number + 1
        return f"{number}. "

    def _flush(self, *, is_term: bool = False) -> None:
        """Write the inline text collected so far as one block."""
        text = _lines("".join(self.parts))
        self.parts.clear()
        if not text:
            return
        kind, level = self._kind(is_term=is_term)
        is_item = kind == "list_item"
        self.builder.add(kind, self.marker + text, level=level, tight=is_item and self.is_tight)
        self.is_tight, self.marker = is_item, ""

    def _kind(self, *, is_term: bool) -> tuple[BlockKind, int]:
        if self.heading:
            return "heading", self.heading
        if self.marker:
            return "list_item", max(1, len(self.lists))
        if self.terms:
            return "list_item", len(self.lists) + (1 if is_term else 2)
        if self.caption:
            return "caption", 0
        return ("quote" if self.quotes else "paragraph"), 0

    def _table(self, table: LexborNode) -> None:
        caption = next((c for c in _children(table) if c.tag == "caption"), None)
        if caption is not None:
            self.builder.add("caption", _flat(caption))
        rows, header_rows = _grid(table)
        self.builder.add_table(rows, header_rows=header_rows)
        self.is_tight, self.marker = False, ""


def _grid(table: LexborNode) -> tuple[list[list[str]], int]:
    """Cells of a table, spanning ones repeated; and the number of header rows."""
    rows: list[list[str]] = []
    header_rows = 0
    below: dict[int, tuple[int, str]] = {}  # column -> rows still covered from above, text
    for row, is_head in _rows(table):
        cells = [cell for cell in _children(row) if cell.tag in ("td", "th")]
        line: list[str] = []
        for cell in cells:
            _fill(line, below)
            text = _flat(cell)
            is_full_row = len(cells) == 1 and not line
            width = 1 if is_full_row else _span(cell, "colspan")
            for column in range(len(line), len(line) + width):
                below[column] = (_span(cell, "rowspan") - 1, text)
            line += [text] * width
        _fill(line, below)
        is_head = is_head or (bool(cells) and all(cell.tag == "th" for cell in cells))
        header_rows += is_head and header_rows == len(rows)
        rows.append(line)
    return rows, header_rows if header_rows < len(rows) else min(1, header_rows)


def _fill(line: list[str], below: dict[int, tuple[int, str]]) -> None:
    """Append the cells that reach down from rows above."""
    while below.get(len(line), (0, ""))[0] > 0:
        left, text = below[len(line)]
        below[len(line)] = (left - 1, text)
        line.append(text)


def _rows(table: LexborNode) -> Iterator[tuple[LexborNode, bool]]:
    """Rows of a table itself, not of tables in its cells; and whether they are in its head."""
    for part in _children(table):
        if part.tag == "tr":
            yield part, False
        elif part.tag in ("thead", "tbody", "tfoot"):
            yield from ((row, part.tag == "thead") for row in _children(part) if row.tag == "tr")


def _span(cell: LexborNode, attribute: str) -> int:
    value = cell.attributes.get(attribute) or ""
    return min(_MAX_SPAN, max(1, int(value))) if value.isascii() and value.isdigit() else 1


def _is_layout(table: LexborNode) -> bool:
    """Whether a table places parts of the page instead of showing data."""
    if table.attributes.get("role") in ("presentation", "none"):
        return True
    widest = max(
        (sum(c.tag in ("td", "th") for c in _children(r)) for r, _ in _rows(table)), default=0
    )
    has_blocks = table.css_first("h1, h2, h3, h4, h5, h6, pre, td p ~ p, td table") is not None
    return (
        has_blocks
        and (widest < 2 or table.css_first("th, caption, thead") is None)
        and (widest < 2 or table.css_first("h1, h2, h3, h4, h5, h6, pre, td p ~ p") is not None)
    )


def _flat(node: LexborNode) -> str:
    """All text under a node on one line."""
    parts: list[str] = []
    stack = [node]
    while stack:
        node = stack.pop()
        if node.is_text_node:
            parts.append(node.text_content or "")
        elif node.is_element_node and not _is_hidden(node):
            if node.tag in ("br", "img", "math", "wbr"):
                parts.append(_inline(node))
                continue
            if node.tag in _BLOCKS:
                parts.append(" ")
            elif node.tag == "sup" and _is_exponent(parts, node):
                parts.append("^")
            stack.extend(reversed(list(_children(node))))
    return _collapse("".join(parts))


def _inline(node: LexborNode) -> str:
    """Text of an element that has no text of its own: line ends and formulas."""
    if node.tag == "br":
        return "\v"
    if node.tag == "math":
        source = node.css_first("annotation")
        return (source.text() if source else node.attributes.get("alttext")) or node.text()
    is_formula = node.tag == "img" and "math" in (node.attributes.get("class") or "")
    return (node.attributes.get("alt") or "") if is_formula else ""


def _is_exponent(parts: list[str], node: LexborNode) -> bool:
    """Whether `<sup>` is a power, as in 10<sup>6</sup>, which without it reads as 106."""
    is_after_digit = bool(parts) and parts[-1][-1:].isdigit()
    return is_after_digit and re.fullmatch(r"[-−–+]?\d+", node.text().strip()) is not None


def _verbatim(node: LexborNode) -> str:
    for br in node.css("br"):
        br.replace_with("\n")
    return node.text().replace("\xa0", " ").translate(_SOFT)


def _language(node: LexborNode) -> str:
    """The language that the classes of a code element name."""
    code = node.css_first("code")
    for marked in (node, code, node.parent):
        classes = (marked.attributes.get("class") or "") if marked is not None else ""
        found = re.search(
            r"(?:^|\s)(?:language|lang|highlight-source|highlight)-([\w+#-]+)", classes
        )
        if found:
            return found[1]
    return ""


def _children(node: LexborNode) -> Iterator[LexborNode]:
    child = node.child
    while child is not None:
        yield child
        child = child.next


def _is_hidden(node: LexborNode) -> bool:
    style = node.attributes.get("style")
    return bool(style and _INVISIBLE_STYLE.search(style))


def _collapse(text: str) -> str:
    return " ".join(text.translate(_SOFT).split())


def _lines(text: str) -> str:
    """Inline text with white space collapsed; a `<br>` is a line end."""
    if not text or (text.isspace() and "\v" not in text):
        return ""
    lines = (_SPACE.sub(" ", line).strip() for line in text.translate(_SOFT).split("\v"))
    return "\n".join(line for line in lines if line)
