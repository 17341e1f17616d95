"""Chunkers that people use now, as ours are used: spans of a document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chunkwise.types import Document, Query, Span, TokenCounter


@dataclass(frozen=True)
class Peer:
    """A chunker of another library.

    Attributes:
        name: Of the library and its way to cut.
        size: Most tokens, by `counter`.
        counter: Counts them.
    """

    name: str
    size: int
    counter: TokenCounter
    overlap: int = 0

    def split(self, document: Document, query: Query | None = None) -> list[Span]:
        """Spans of the chunks, blank edges and all, as the library gives them."""
        spans = _CUTS[self.name](document.text, self.size, self.counter)
        assert all(0 <= start < end <= len(document.text) for start, end in spans), self.name
        return [Span(*span) for span in spans if document.text[slice(*span)].strip()]


def _semchunk(text: str, size: int, counter: TokenCounter) -> list[tuple[int, int]]:
    import semchunk

    chunk = semchunk.chunkerify(counter.count, chunk_size=size, memoize=False)
    _, spans = chunk(text, offsets=True)
    return list(spans)


def _langchain(text: str, size: int, counter: TokenCounter) -> list[tuple[int, int]]:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        chunk_size=size, chunk_overlap=0, length_function=counter.count, add_start_index=True
    )
    found = splitter.create_documents([text])
    starts = [(piece.metadata["start_index"], len(piece.page_content)) for piece in found]
    return [(start, start + length) for start, length in starts]


def _text_splitter(text: str, size: int, counter: TokenCounter) -> list[tuple[int, int]]:
    from semantic_text_splitter import TextSplitter

    splitter = TextSplitter.from_callback(counter.count, size)
    return [(start, start + len(piece)) for start, piece in splitter.chunk_indices(text)]


def _chonkie(text: str, size: int, counter: TokenCounter) -> list[tuple[int, int]]:
    from chonkie import RecursiveChunker

    chunker = RecursiveChunker(tokenizer=counter.count, chunk_size=size)
    return [(chunk.start_index, chunk.end_index) for chunk in chunker.chunk(text)]


_CUTS: dict[str, Callable[[str, int, TokenCounter], list[tuple[int, int]]]] = {
    "semchunk": _semchunk,
    "langchain recursive": _langchain,
    "semantic-text-splitter": _text_splitter,
    "chonkie recursive": _chonkie,
}
PEERS = tuple(_CUTS)
