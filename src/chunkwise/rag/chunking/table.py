"""Tables in chunks of their own, cut by whole rows behind repeated headers; all else by structure.

A table, with its caption and the headings directly above it, shares no chunk with other text unless
it is small. One that is too long is cut between rows, and the header rows are repeated with each
part as context (`Chunk.header`), which counts. A row that is too long by itself is cut between its
cells. Small tables and other text are cut as `structural` cuts them, but that a caption is not
parted from its table. Chunks of tables repeat nothing of the chunk before, nor it of them.

Source: none; what most splitters of tables do.
Exact when: there are no tables but small ones without caption: `structural`.
Cost: linear.
Helps or hurts: on text without tables it cuts as `structural` does (measured); on its own kind of
    documents it was not measured in retrieval.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chunkwise.rag.chunking.pieces import (
    Choose,
    Ruler,
    add_overlap,
    breaks_of,
    check_ratio,
    check_sizes,
    pack,
)
from chunkwise.rag.chunking.structure import (
    ITEM,
    Place,
    packed,
    places_of,
    sections,
    strongest,
)
from chunkwise.types import Block, Document, Query, Span, TokenCounter

__all__ = ["TableChunker"]

_CELLS = re.compile(r"(?s:.*)(?:[^\S\n]\|[^\S\n]|\t)")


@dataclass(frozen=True, kw_only=True)
class TableChunker:
    """Keeps tables apart from other text.

    Attributes:
        counter: Counts the tokens.
        size: Most tokens of a chunk, a repeated table header included.
        overlap: Tokens of the chunk before that a chunk of text repeats, at most; in [0, size).
        fill: Share of `size` below which a chunk ends only if no boundary lies further on, in
            [0, 1].
        small: Share of `size` up to which a table with its caption may share a chunk with other
            text, in [0, 1]; 0: never.
    """

    counter: TokenCounter
    size: int = 140
    overlap: int = 0
    fill: float = 0.5
    small: float = 0.25

    def __post_init__(self) -> None:
        check_sizes(self.size, self.overlap)
        check_ratio("fill", self.fill)
        check_ratio("small", self.small)

    def split(self, document: Document, query: Query | None = None) -> list[Span]:
        """Spans of the chunks; see `Chunker`."""
        ruler = Ruler(document, self.counter, self.size)
        tables = list(_tables(document.blocks))
        glued = {block.start for table in tables for block in table[1:]}
        places = [place for place in places_of(document) if place.at not in glued]
        by_rows = _by_rows(document, places)
        room, done = self.size - self.overlap, 0
        spans: list[Span] = []
        for table in tables:
            region = Span(table[0].start, table[-1].end)
            if ruler.fits(*region, int(self.small * self.size)):
                continue
            spans += self._text(ruler, places, Span(done, region.start), room)
            spans += pack(ruler, region, self.size, choose=by_rows, fill=self.fill)
            done = region.end
        return spans + self._text(ruler, places, Span(done, len(document.text)), room)

    def _text(self, ruler: Ruler, places: Sequence[Place], region: Span, room: int) -> list[Span]:
        parts = list(sections(places, region))
        return add_overlap(ruler, packed(ruler, places, parts, room, self.fill), self.overlap)


def _tables(blocks: Sequence[Block]) -> Iterator[Sequence[Block]]:
    """Each table with the headings and the caption before it, or the caption behind it."""
    first = 0
    for at, block in enumerate(blocks):
        if block.kind != "table":
            continue
        start = at
        if start > first and blocks[start - 1].kind == "caption":
            start -= 1
        is_free = start == at
        while start > first and blocks[start - 1].kind == "heading":
            start -= 1
        kinds = [after.kind for after in blocks[at + 1 : at + 3]]
        is_behind = is_free and kinds[:1] == ["caption"] and kinds[1:] != ["table"]
        first = at + 1 + is_behind
        yield blocks[start:first]


def _by_rows(document: Document, places: Sequence[Place]) -> Choose:
    """Choose the last row in reach, else the last cell."""
    otherwise = breaks_of(document.text)

    def at_cell(start: int, low: int, reach: int) -> int:
        found = _CELLS.match(document.text, max(low, start + 1), reach)
        return found.end() if found else otherwise(start, low, reach)

    rows = {row.start for block in document.blocks for row in block.rows}
    return strongest([p for p in places if p.strength == ITEM and p.at in rows], at_cell)
