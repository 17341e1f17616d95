"""The chunker protocol and `cut`, which turns spans into chunks in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chunkwise.registry import Registry
from chunkwise.types import Chunk, Document, Query, Span, TokenCounter


class Chunker(Protocol):
    """Cuts a document into spans of its text.

    An implementation is a frozen dataclass; the fields below are offered by whoever builds it
    (`size`, `overlap`, `counter`, `segmenter`, `embedder`), and it declares those it uses.

    Attributes:
        size: Most tokens of a chunk. A hard limit, repeated table header included.
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


chunkers: Registry[Chunker] = Registry("chunkwise.rag.chunking", shared=("base", "pieces"))


def cut(document: Document, spans: Sequence[Span], counter: TokenCounter) -> list[Chunk]:
    """Chunks of the spans: text, content id, tokens, headings in force, table header, pages."""
    raise NotImplementedError
