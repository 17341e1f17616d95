"""Embedders: texts in, unit vectors out."""

from chunkwise.rag.embedding.base import embedders

__all__ = ["embedders"]
