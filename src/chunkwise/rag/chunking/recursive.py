"""The default: cuts at the largest break near the limit, paragraphs before sentences before words.

Breaks, largest first: headings, paragraphs, lines that end or begin something, sentences, lines,
clauses, words, punctuation, characters. A chunk is filled from the left; it ends at the last break
of the largest kind found between `fill * size` and `size` tokens, so neighbours that fit together
are never apart and no piece is counted twice. Only the stretch near each limit is looked at.
"""

from __future__ import annotations

import bisect
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
from chunkwise.types import Document, Query, Span, TokenCounter

__all__ = ["RecursiveChunker"]


@dataclass(frozen=True, kw_only=True)
class RecursiveChunker:
    """Cuts at the largest kind of break near the limit.

    Attributes:
        counter: Counts the tokens.
        size: Most tokens of a chunk.
        overlap: Tokens of the chunk before that a chunk repeats, at most; in [0, size).
        fill: Share of `size` that a chunk has at least if any break allows, in [0, 1]. Near 0,
            paragraphs are hardly ever cut and chunks are uneven; near 1, chunks are full and
            end at smaller breaks.
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
        whole = Span(0, len(document.text))
        choose = _before_headings(document)
        spans = pack(ruler, whole, self.size - self.overlap, choose=choose, fill=self.fill)
        return add_overlap(ruler, spans, self.overlap)


def _before_headings(document: Document) -> Choose:
    """Choose the last heading in reach, so that it goes with what follows, else a break."""
    otherwise = breaks_of(document.text)
    blocks = document.blocks
    places = [
        block.start
        for i, block in enumerate(blocks)
        if block.kind == "heading" and (i == 0 or blocks[i - 1].kind != "heading")
    ]
    if not places:
        return otherwise

    def choose(start: int, low: int, reach: int) -> int:
        at = bisect.bisect_right(places, reach) - 1
        if at >= 0 and places[at] >= max(low, start + 1):
            return places[at]
        return otherwise(start, low, reach)

    return choose
