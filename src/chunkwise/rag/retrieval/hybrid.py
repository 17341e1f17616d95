"""BM25 and vectors together, by reciprocal ranks.

Source: Cormack, Clarke and Büttcher, Reciprocal Rank Fusion (SIGIR 2009), k = 60.
Differs: each of the two rankings has a weight.
Exact when: one weight is 0; then the order is that of the other ranking.
Cost: both searches, one after the other.
Helps or hurts: see `benchmarks/RESULTS.md`; with a weak embedder BM25 alone is better.
"""

from __future__ import annotations

from dataclasses import dataclass

from chunkwise.errors import ConfigError
from chunkwise.rag.retrieval.base import ChunkSource, Retriever
from chunkwise.rag.retrieval.fusion import reciprocal_ranks
from chunkwise.types import Hit, Query

__all__ = ["HybridRetriever"]


@dataclass(frozen=True)
class HybridRetriever:
    """Fuses the rankings of two retrievers.

    Attributes:
        store: Where both search.
        bm25: The retriever by words.
        dense: The retriever by vectors.
        rrf_k: Larger values trust the top of a ranking less.
        bm25_weight: Weight of the ranking by words; 0: left out.
        dense_weight: Weight of the ranking by vectors; 0: left out.
        depth: Hits taken of each ranking, if `k` is not more.
    """

    store: ChunkSource
    bm25: Retriever
    dense: Retriever
    rrf_k: float = 60.0
    bm25_weight: float = 1.0
    dense_weight: float = 1.0
    depth: int = 50

    def __post_init__(self) -> None:
        if not self.rrf_k >= 0:
            raise ConfigError(f"`rrf_k` must be at least 0, got {self.rrf_k!r}.")
        if self.depth < 1:
            raise ConfigError(f"`depth` must be at least 1, got {self.depth!r}.")
        weights = (self.bm25_weight, self.dense_weight)
        if min(weights) < 0 or max(weights) <= 0:
            raise ConfigError(
                "`bm25_weight` and `dense_weight` must not be negative, and one of them must be "
                f"above 0; got {weights!r}."
            )

    def search(self, query: Query, k: int) -> list[Hit]:
        """At most `k` hits, best first, one a content; the filter is applied before ranking."""
        return self.store.read(lambda: self._search(query, k))

    def _search(self, query: Query, k: int) -> list[Hit]:
        pairs = ((self.bm25, self.bm25_weight), (self.dense, self.dense_weight))
        used = [(retriever, weight) for retriever, weight in pairs if weight > 0]
        rankings = [retriever.search(query, max(k, self.depth)) for retriever, _ in used]
        fused = reciprocal_ranks(rankings, k=self.rrf_k, weights=[weight for _, weight in used])
        return fused[: max(k, 0)]
