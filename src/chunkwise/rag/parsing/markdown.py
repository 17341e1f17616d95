"""Markdown: the canonical text is the source itself, with block spans over it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from chunkwise.rag.parsing.encodings import decode
from chunkwise.types import Block, BlockKind, Document, Span

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["MarkdownParser"]

_FRONT_MATTER = re.compile(
    r"---[ \t]*\n(?P<body>(?:(?!---[ \t]*$|\.\.\.[ \t]*$).*\n){0,500}?)"
    r"(?:---|\.\.\.)[ \t]*(?:\n|\Z)",
    re.M,
)
_PAIR = re.compile(r"^(?P<key>[A-Za-z][\w .-]*?):[ \t]+(?P<value>\S.*)$", re.M)
_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])")
_HEADING_MARKS = re.compile(r"^#{1,6}(?=\s)|(?<=\s)#+$|\{#[\w-]+\}$")
_MAX_NESTING = 60
_LEAVES: dict[str, BlockKind] = {
    "paragraph_open": "paragraph",
    "heading_open": "heading",
    "fence": "code",
    "code_block": "code",
    "html_block": "paragraph",
    "table_open": "table",
}


@dataclass(frozen=True)
class MarkdownParser:
    """CommonMark with tables and YAML front matter."""

    suffixes: ClassVar[tuple[str, ...]] = (
        ".md",
        ".markdown",
        ".mdown",
        ".mkd",
        ".mdx",
        ".qmd",
        ".rmd",
    )

    def parse(self, data: bytes, *, name: str) -> Document:
        """Parse a whole file.

        Raises:
            DocumentError: The bytes are no text.
        """
        text = decode(data, name=name)
        metadata, start = _front_matter(text)
        blocks = tuple(_without_gaps(text, start, _Reader(text, start).blocks()))
        headings = (b.name for b in blocks if b.kind == "heading" and b.level == 1)
        title = metadata.get("title") or next(headings, "")
        return Document(name, text, blocks, title=title, metadata=metadata)


class _Reader:
    """Turns the tokens of markdown-it, which count lines, into blocks, which count characters."""

    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.source = text[start:]
        self.lines = [start, *(start + m.end() for m in re.finditer("\n", self.source))]
        self.quotes = self.lists = 0
        self.item_start: int | None = None  # first line of an item that has no block yet

    def blocks(self) -> Iterator[Block]:
        """Blocks in text order."""
        tokens = _tokens(self.source)
        for i, token in enumerate(tokens):
            step = token.nesting
            if token.type.startswith("blockquote_"):
                self.quotes += step
            elif token.type in ("bullet_list_open", "ordered_list_open"):
                self.lists += 1
            elif token.type in ("bullet_list_close", "ordered_list_close"):
                self.lists -= 1
            elif token.type == "list_item_open" and token.map:
                self.item_start = token.map[0]
            elif token.type in _LEAVES and token.map:
                yield from self._leaf(token, tokens[i:] if token.type == "table_open" else ())

    def _leaf(self, token: Token, table: Sequence[Token]) -> Iterator[Block]:
        first, last = token.map or (0, 0)
        start, end = self._span(first, last)
        if start >= end:
            return
        kind, level, name = _LEAVES[token.type], 0, ""
        if kind == "heading":
            level, name = int(token.tag[1]), _plain(self.text[start:end])
        elif kind == "paragraph" and self.item_start is not None:
            kind, level = "list_item", self.lists
        elif kind == "paragraph" and self.quotes:
            kind = "quote"
        elif kind == "code":
            name = token.info.split()[0].strip("{}.") if token.info.strip() else ""
        self.item_start = None
        if kind == "table":
            rows = tuple(self._rows(first, table))
            yield Block(kind, start, end, rows=rows, header_rows=min(2, len(rows)))
        else:
            yield Block(kind, start, end, level, name=name)

    def _rows(self, first: int, tokens: Sequence[Token]) -> Iterator[Span]:
        """Spans of a table's rows: the header, the line of dashes, the body."""
        yield self._span(first, first + 1)
        yield self._span(first + 1, first + 2)
        for token in tokens:
            if token.type == "table_close":
                return
            if token.type == "tr_open" and token.map and token.map[0] > first:
                yield self._span(*token.map)

    def _span(self, first: int, last: int) -> Span:
        """The lines from `first` up to `last`, blank edges trimmed."""
        start = self.lines[min(first, len(self.lines) - 1)]
        end = self.lines[last] if last < len(self.lines) else len(self.text)
        return _trimmed(self.text, start, end)


def _tokens(source: str) -> list[Token]:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"maxNesting": _MAX_NESTING}).enable("table")
    # Inline mark-up needs no tokens; link definitions are text like any other.
    parser.core.ruler.enableOnly(["normalize", "block"])
    parser.disable("reference")
    return parser.parse(source)


def _front_matter(text: str) -> tuple[dict[str, str], int]:
    """The simple `key: value` lines of YAML front matter, and where the Markdown starts."""
    found = _FRONT_MATTER.match(text)
    if found is None or not _PAIR.search(found["body"]):
        return {}, 0
    pairs = (_PAIR.match(line) for line in found["body"].split("\n"))
    metadata = {p["key"].strip().lower(): p["value"].strip().strip("\"'") for p in pairs if p}
    return metadata, found.end()


def _without_gaps(text: str, start: int, blocks: Iterator[Block]) -> Iterator[Block]:
    """The blocks, and a paragraph wherever words stand between two of them."""
    at = start
    for block in blocks:
        yield from _gap(text, at, block.start)
        yield block
        at = block.end
    yield from _gap(text, at, len(text))


def _gap(text: str, start: int, end: int) -> Iterator[Block]:
    if re.search(r"\w", text[start:end]):
        yield Block("paragraph", *_trimmed(text, start, end))


def _trimmed(text: str, start: int, end: int) -> Span:
    piece = text[start:end]
    return Span(end - len(piece.lstrip()), start + len(piece.rstrip()))


def _plain(heading: str) -> str:
    """The words of a heading without its mark-up."""
    line = re.sub(r"\n[ \t>]*(?:=+|-+)[ \t]*$", "", heading).strip()
    line = _HEADING_MARKS.sub("", line.lstrip(">-*+ \t")).strip()
    line = _HEADING_MARKS.sub("", _LINK.sub(r"\1", line))
    return re.sub(r"\*\*|__|(?<!\w)[*_]|[*_](?!\w)|`", "", " ".join(line.split())).strip()
