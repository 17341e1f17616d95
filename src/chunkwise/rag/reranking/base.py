"""The reranker protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chunkwise.registry import Registry
from chunkwise.types import Hit, Query


class Reranker(Protocol):
    """Scores hits again. Built with the parts it declares (`embedder` ...)."""

    def rerank(self, query: Query, hits: Sequence[Hit]) -> list[Hit]:
        """A permutation of `hits`, best first, with new scores; old scores stay in `scores`."""
        ...


rerankers: Registry[Reranker] = Registry("chunkwise.rag.reranking")
