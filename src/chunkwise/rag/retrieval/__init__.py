"""Retrieval: a query in, hits out, best first."""

from chunkwise.rag.retrieval.base import Retriever, retrievers

__all__ = ["Retriever", "retrievers"]
