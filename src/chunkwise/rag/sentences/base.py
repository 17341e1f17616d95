"""The registry of sentence segmenters; the protocol is `chunkwise.types.Segmenter`."""

from __future__ import annotations

from chunkwise.registry import Registry
from chunkwise.types import Segmenter

segmenters: Registry[Segmenter] = Registry(
    "chunkwise.rag.sentences",
    shared=(
        "base",
        "decoding",
        "guess",
        "heads",
        "languages",
        "lines",
        "marks",
        "model",
        "network",
        "periods",
        "tokens",
    ),
)
