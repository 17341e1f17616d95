"""Answering: passages in, an answer with citations out."""

from chunkwise.rag.answering.base import Answerer, answerers

__all__ = ["Answerer", "answerers"]
