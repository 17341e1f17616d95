"""Whole sentences, as many as fit."""

from __future__ import annotations

from dataclasses import dataclass

from chunkwise.rag.chunking.pieces import (
    Ruler,
    add_overlap,
    boundaries,
    breaks_of,
    check_sizes,
    pack,
)
from chunkwise.types import Document, Query, Segmenter, Span, TokenCounter

__all__ = ["SentenceChunker"]


@dataclass(frozen=True, kw_only=True)
class SentenceChunker:
    """Packs whole sentences; one that is too long by itself is cut at its largest breaks.

    Attributes:
        counter: Counts the tokens.
        segmenter: Finds the sentences.
        size: Most tokens of a chunk.
        overlap: Tokens of the chunk before that a chunk repeats, at most; in [0, size).
    """

    counter: TokenCounter
    segmenter: Segmenter
    size: int = 140
    overlap: int = 0

    def __post_init__(self) -> None:
        check_sizes(self.size, self.overlap)

    def split(self, document: Document, query: Query | None = None) -> list[Span]:
        """Spans of the chunks; see `Chunker`."""
        ruler = Ruler(document, self.counter, self.size)
        places = [sentence.start for sentence in self.segmenter.split(document.text)]
        spans = pack(
            ruler,
            Span(0, len(document.text)),
            self.size - self.overlap,
            choose=boundaries(places, breaks_of(document.text)),
            fill=0.5,
        )
        return add_overlap(ruler, spans, self.overlap)
