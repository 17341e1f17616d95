"""Rerankers: hits in, the same hits in a better order out."""

from chunkwise.rag.reranking.base import Reranker, rerankers

__all__ = ["Reranker", "rerankers"]
