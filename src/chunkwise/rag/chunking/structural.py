"""Follows the structure that the parser found: sections, lists, tables, definitions, pages.

Sections are never mixed in one chunk; a heading without text of its own goes with the section
that follows it. Inside a section, blocks that fit together are kept together; where they do not,
the cut goes to the strongest boundary near the limit: between blocks of different kinds, then
pages, then blocks, then the rows of a table or the items of a list. A block that is too long by
itself is cut as `recursive` cuts text. Tables are cut by whole rows, and the header rows that
will be repeated count; header rows stay with the first row. Without blocks it equals `recursive`.
"""

from __future__ import annotations

from dataclasses import dataclass

from chunkwise.rag.chunking.pieces import Ruler, add_overlap, check_ratio, check_sizes
from chunkwise.rag.chunking.structure import packed, places_of, sections
from chunkwise.types import Document, Query, Span, TokenCounter

__all__ = ["StructuralChunker"]


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
    size: int = 140
    overlap: int = 0
    fill: float = 0.5

    def __post_init__(self) -> None:
        check_sizes(self.size, self.overlap)
        check_ratio("fill", self.fill)

    def split(self, document: Document, query: Query | None = None) -> list[Span]:
        """Spans of the chunks; see `Chunker`."""
        ruler = Ruler(document, self.counter, self.size)
        places = list(places_of(document))
        parts = list(sections(places, Span(0, len(document.text))))
        spans = packed(ruler, places, parts, self.size - self.overlap, self.fill)
        return add_overlap(ruler, spans, self.overlap)
