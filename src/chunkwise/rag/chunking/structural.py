"""Follows the structure that the parser found: sections, lists, tables, definitions, pages.

Sections are never mixed in one chunk; a heading without text of its own goes with the section
that follows it. Inside a section, blocks that fit together are kept together; where they do not,
the cut goes to the strongest boundary near the limit: between blocks of different kinds, then
pages, then blocks, then the rows of a table or the items of a list. A block that is too long by
itself is cut as `recursive` cuts text. Tables are cut by whole rows, and the header rows that
will be repeated count; header rows stay with the first row. Without blocks it equals `recursive`.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chunkwise.rag.chunking.pieces import (
    Choose,
    Ruler,
    add_overlap,
    breaks_of,
    check_ratio,
    check_sizes,
    pack,
)
from chunkwise.types import Block, Document, Query, Span, TokenCounter

__all__ = ["StructuralChunker"]

_SECTION, _KIND, _PAGE, _BLOCK, _ITEM, _NEVER = 5, 4, 3, 2, 1, 0


@dataclass(frozen=True, kw_only=True)
class StructuralChunker:
    """Cuts between the blocks of a document, at the strongest boundary near the limit.

    Attributes:
        counter: Counts the tokens.
        size: Most tokens of a chunk.
        overlap: Tokens of the chunk before that a chunk repeats, at most; in [0, size).
        fill: Share of `size` below which a chunk of a long section ends only if no boundary
            lies further on, in [0, 1].
    """

    counter: TokenCounter
    size: int = 200
    overlap: int = 0
    fill: float = 0.5

    def __post_init__(self) -> None:
        check_sizes(self.size, self.overlap)
        check_ratio("fill", self.fill)

    def split(self, document: Document, query: Query | None = None) -> list[Span]:
        """Spans of the chunks; see `Chunker`."""
        ruler = Ruler(document, self.counter, self.size)
        places = list(_boundaries(document))
        choose = _strongest([p for p in places if p.strength != _NEVER], breaks_of(document.text))
        edges = [0, *(p.at for p in places if p.strength == _SECTION), len(document.text)]
        spans: list[Span] = []
        for start, end in itertools.pairwise(edges):
            room = self.size - self.overlap
            spans += pack(ruler, Span(start, end), room, choose=choose, fill=self.fill)
        return add_overlap(ruler, spans, self.overlap)


class _Place(NamedTuple):
    at: int
    strength: int


def _boundaries(document: Document) -> Iterator[_Place]:
    """Places between blocks, rows and items, in order, with how well one can cut there."""
    pages = {page.start for page in document.pages}
    before: Block | None = None
    for block in document.blocks:
        if before is not None:
            yield _Place(block.start, _strength(document.text, before, block, pages))
        elif document.text[: block.start].strip():
            yield _Place(block.start, _SECTION if block.kind == "heading" else _BLOCK)
        for row in block.rows[block.header_rows + 1 if block.header_rows else 1 :]:
            yield _Place(row.start, _ITEM)
        before = block


def _strength(text: str, before: Block, block: Block, pages: set[int]) -> int:
    if before.kind == "heading":
        return _NEVER
    if block.kind == "heading":
        return _SECTION
    if block.start in pages:
        return _PAGE
    if block.kind == "list_item":
        is_within = before.kind == "list_item" or text[before.start : before.end].endswith(":")
        return _ITEM if is_within else _BLOCK
    return _KIND if block.kind != before.kind or block.kind == "definition" else _BLOCK


def _strongest(places: Sequence[_Place], otherwise: Choose) -> Choose:
    """Choose the strongest and then last place in reach; before `low` only if none is after."""
    starts = [place.at for place in places]

    def choose(start: int, low: int, reach: int) -> int:
        first = bisect.bisect_right(starts, start)
        middle = max(first, bisect.bisect_left(starts, low))
        last = bisect.bisect_right(starts, reach)
        near = places[middle:last] or places[first:middle]
        if not near:
            return otherwise(start, low, reach)
        return max(near, key=lambda place: (place.strength, place.at)).at

    return choose
