"""The registry of embedders; the protocol is `chunkwise.types.Embedder`."""

from __future__ import annotations

from chunkwise.registry import Registry
from chunkwise.types import Embedder

embedders: Registry[Embedder] = Registry(
    "chunkwise.rag.embedding", shared=("base", "bert", "folder")
)
