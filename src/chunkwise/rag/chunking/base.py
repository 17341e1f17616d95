"""The chunker protocol and `cut`, which turns spans into chunks in one place."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from chunkwise.rag.chunking.pieces import Ruler, table_header
from chunkwise.rag.chunking.source import Scopes
from chunkwise.registry import Registry
from chunkwise.types import Block, Chunk, Document, Query, Span, TokenCounter, content_id


class Chunker(Protocol):
    """Cuts a document into spans of its text.

    An implementation is a frozen dataclass; the fields below are offered by whoever builds it
    (`size`, `overlap`, `counter`, `segmenter`, `boundaries`, `embedder` ...), and it declares those
    it uses.

    Attributes:
        size: Most tokens of a chunk. A hard limit, repeated table header included. Only a
            single character that has more tokens by itself is longer.
        overlap: Tokens of the chunk before that a chunk repeats, at most.
        counter: Counts the tokens.
    """

    size: int
    overlap: int
    counter: TokenCounter

    def split(self, document: Document, query: Query | None = None) -> list[Span]:
        """Spans in order that together cover all text that is not blank.

        Spans have no blank edges and are never blank; without overlap they do not overlap.
        """
        ...


chunkers: Registry[Chunker] = Registry(
    "chunkwise.rag.chunking", shared=("base", "pieces", "sections", "source", "structure")
)

_MARKUP = re.compile(r"\A#{1,6}\s+|\s+#+\Z|\n\s*([=~^\"'+*-])\1+\s*\Z")


def cut(
    document: Document, spans: Sequence[Span], counter: TokenCounter, *, size: int | None = None
) -> list[Chunk]:
    """Chunks of the spans: text, content id, tokens, headings in force, table header, pages.

    In source code, the lines that open the definitions around a chunk are headings too.

    Args:
        document: What was cut.
        spans: Places of the chunks, in order.
        counter: Counts their tokens.
        size: Most tokens of a chunk and its repeated table header together; a header that does
            not fit is left out. None: no limit.
    """
    ruler = Ruler(document, counter, size or 1)
    return list(_chunks(document, spans, counter, size, ruler.count))


def cut_few(
    document: Document, spans: Sequence[Span], counter: TokenCounter, *, size: int | None = None
) -> list[Chunk]:
    """As `cut`, for few spans of a document that may be long: only their own text is counted."""

    def count(start: int, end: int) -> int:
        return counter.count(document.text[start:end])

    return list(_chunks(document, spans, counter, size, count))


def _chunks(
    document: Document,
    spans: Sequence[Span],
    counter: TokenCounter,
    size: int | None,
    count: Callable[[int, int], int],
) -> Iterator[Chunk]:
    headings, scopes = _Headings(document), Scopes(document)
    tables = [block for block in document.blocks if block.kind == "table"]
    for span in spans:
        text = document.text[span.start : span.end]
        header = _continued_header(document.text, tables, span.start)
        if header and size is not None and counter.count(f"{header}\n{text}") > size:
            header = ""
        pages = _pages(document.pages, span)
        above = (*headings.above(span.start), *scopes.above(span.start))
        yield Chunk(content_id(text), text, span, count(*span), above, header, pages)


class _Headings:
    """Headings in force at places of a document, asked for in text order or not."""

    def __init__(self, document: Document) -> None:
        blocks = [block for block in document.blocks if block.kind == "heading"]
        self._starts = [block.start for block in blocks]
        self._levels = [max(1, block.level) for block in blocks]
        self._above: list[tuple[tuple[int, str], ...]] = [()]
        for block, level in zip(blocks, self._levels, strict=True):
            title = _MARKUP.sub("", document.text[block.start : block.end].strip())
            self._above.append((*_outer(self._above[-1], level), (level, title)))

    def above(self, start: int) -> tuple[str, ...]:
        """Titles of the headings before `start`; a heading at `start` ends its equals."""
        at = bisect.bisect_left(self._starts, start)
        stack = self._above[at]
        if at < len(self._starts) and self._starts[at] == start:
            stack = _outer(stack, self._levels[at])
        return tuple(title for _, title in stack)


def _outer(stack: tuple[tuple[int, str], ...], level: int) -> tuple[tuple[int, str], ...]:
    return tuple(entry for entry in stack if entry[0] < level)


def _continued_header(text: str, tables: Sequence[Block], start: int) -> str:
    at = bisect.bisect_right(tables, start, key=lambda block: block.start) - 1
    if at < 0 or start >= tables[at].end:
        return ""
    rows, header_rows = tables[at].rows, tables[at].header_rows
    header = table_header(text, rows, header_rows)
    return header if header and start >= rows[header_rows - 1].end else ""


def _pages(pages: Sequence[Span], span: Span) -> tuple[int, int] | None:
    """First and last page, from 1, that shares a character with the span."""
    first = bisect.bisect_right(pages, span.start, key=lambda page: page.end)
    last = bisect.bisect_left(pages, span.end, key=lambda page: page.start)
    return (first + 1, last) if first < last else None
