"""Chunkers: a document in, spans out; `cut` makes the chunks."""

from chunkwise.rag.chunking.base import Chunker, chunkers, cut

__all__ = ["Chunker", "chunkers", "cut"]
