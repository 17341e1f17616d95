"""The retriever protocol, what retrievers need of a store, and rank fusion."""

from __future__ import annotations

from typing import Protocol

from chunkwise.registry import Registry
from chunkwise.types import Hit, Query


class Retriever(Protocol):
    """Finds chunks. Built with `store` (a `ChunkSource`) and, if it declares one, `embedder`."""

    def search(self, query: Query, k: int) -> list[Hit]:
        """At most `k` hits, best first, one a content; the query's filter is applied before ranking."""
        ...


retrievers: Registry[Retriever] = Registry("chunkwise.rag.retrieval", shared=("base", "fusion"))
