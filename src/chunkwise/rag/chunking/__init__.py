"""Chunkers: a document in, spans out; `cut` makes the chunks."""

from chunkwise.rag.chunking.base import Chunker, chunkers, cut, cut_few

__all__ = ["Chunker", "chunkers", "cut", "cut_few"]
