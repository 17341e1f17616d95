"""Sentence segmentation: text in, sentence spans out."""

from chunkwise.rag.sentences.base import segmenters

__all__ = ["segmenters"]
