"""Search by vectors: exact, or approximate for large corpora.

Source: exact inner products; approximate by HNSW (Malkov and Yashunin, arXiv 1603.09320).
Differs: graph candidates are scored again with the exact vectors.
Exact when: `exact`, or a filter is given, or fewer than `ann_rows` rows, or no graph was built.
Cost: reads all vectors, 154 MB for 100,000 of 384 dimensions: some 15 to 25 ms.
Helps or hurts: finds paraphrases; blurs names and numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError, StoreError
from chunkwise.rag.retrieval.base import ChunkSource
from chunkwise.types import Embedder, Hit, Query

__all__ = ["DenseRetriever"]

_SPARE = 32  # rows taken beyond `k`: dead ones, and texts that stand under several headings
_GATHER_RATIO = 0.2  # fewer allowed rows than this are copied out instead of masked
_GRAPH_SUFFIX = ".usearch"

Matrix = tuple[int, Path, NDArray[np.float32]]


@dataclass(frozen=True)
class DenseRetriever:
    """Ranks texts by the cosine of their vector and the question's.

    Attributes:
        store: Where to search.
        embedder: Makes the question's vector; must be the one the corpus was embedded with.
        exact: Never approximate.
        ann_rows: Vectors from which a graph is used, where `build_graphs` has made one.
    """

    store: ChunkSource
    embedder: Embedder
    exact: bool = False
    ann_rows: int = 300_000

    def __post_init__(self) -> None:
        if self.ann_rows < 0:
            raise ConfigError(f"`ann_rows` must not be negative, got {self.ann_rows!r}.")

    def search(self, query: Query, k: int) -> list[Hit]:
        """At most `k` hits, best first, one a content; the filter is applied before ranking.

        Raises:
            IndexMismatchError: The corpus was embedded with another embedder, or not wholly.
            StoreError: A vector file is damaged.
        """
        vector = self.embedder.embed([query.text], "query")[0]
        return self.store.read(lambda: self._search(query, vector, k))

    def build_graphs(self) -> int:
        """Make or renew the graphs of all vector files; gives how many vectors they hold.

        Takes minutes for each million. Raises MissingDependencyError without `chunkwise[ann]`.
        """
        from chunkwise.rag.retrieval import ann

        matrices = self.store.read(lambda: self.store.matrices(self.embedder.fingerprint))
        for _, path, array in matrices:
            ann.build(path, array)
        return sum(len(array) for _, _, array in matrices)

    def _search(self, query: Query, vector: NDArray[np.float32], k: int) -> list[Hit]:
        documents = self.store.allowed(query.filter)
        matrices = self.store.matrices(self.embedder.fingerprint)
        total = sum(len(array) for _, _, array in matrices)
        if documents == [] or total == 0 or k < 1:
            return []
        is_exact = self.exact or documents is not None or total < self.ann_rows
        num_rows = k + _SPARE
        while True:
            found: dict[int, tuple[float, int]] = {}
            num_seen = 0
            for segment, rows, scores in self._best(
                matrices, vector, num_rows, documents, is_exact
            ):
                num_seen = max(num_seen, len(rows))
                self._add_owners(found, segment, rows, scores, documents)
            if len(found) >= k or num_seen < num_rows:
                return self._hits(found, documents, k)
            num_rows *= 4  # many rows were dead

    def _hits(
        self, found: dict[int, tuple[float, int]], documents: Sequence[int] | None, k: int
    ) -> list[Hit]:
        kth = sorted((score for score, _ in found.values()), reverse=True)[:k][-1:]
        best = {content: pair for content, pair in found.items() if pair[0] >= (kth or [0])[0]}
        scores = {content: score for content, (score, _) in best.items()}
        forms = {content: form for content, (_, form) in best.items()}
        return self.store.hits(scores, "dense", documents, forms=forms)[:k]

    def _best(
        self,
        matrices: Sequence[Matrix],
        vector: NDArray[np.float32],
        num_rows: int,
        documents: Sequence[int] | None,
        is_exact: bool,
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float32]]]:
        """For each vector file its best rows and their scores."""
        for segment, path, array in matrices:
            rows = None if documents is None else self.store.vector_rows(segment, documents)
            if not is_exact:
                rows = _graph_rows(path, array, vector, num_rows)
            scores = self._scores(segment, array, vector, rows)
            top = _top(scores, num_rows)
            yield segment, top if rows is None else rows[top], scores[top]

    def _scores(
        self,
        segment: int,
        array: NDArray[np.float32],
        vector: NDArray[np.float32],
        rows: NDArray[np.int64] | None,
    ) -> NDArray[np.float32]:
        """Cosines of the rows asked for, or of all."""
        with np.errstate(invalid="ignore", over="ignore"):  # damaged rows are dealt with below
            if rows is None or len(rows) > _GATHER_RATIO * len(array):
                scores = array @ vector
                scores = scores if rows is None else scores[rows]
            else:
                scores = array[rows] @ vector
        wrong = np.flatnonzero(~(np.abs(scores) <= 1.01))  # not a number counts as wrong too
        if len(wrong):
            bad = wrong if rows is None else rows[wrong]
            if self.store.owners(segment, bad[:1000].tolist()):
                raise StoreError(
                    f"Vector file {segment} holds damaged vectors. No text is lost: run "
                    "`chunkwise doctor --repair`, then `chunkwise embed`."
                )
            scores[wrong] = -np.inf
        return scores

    def _add_owners(
        self,
        found: dict[int, tuple[float, int]],
        segment: int,
        rows: NDArray[np.int64],
        scores: NDArray[np.float32],
        documents: Sequence[int] | None,
    ) -> None:
        """Note the best score of each content that stands behind some rows, and the form."""
        # Rounded: the last bits depend on where in the file a row stands.
        by_row = {int(row): round(float(s), 6) for row, s in zip(rows, scores, strict=True)}
        for row, content, form in self.store.owners(segment, list(by_row), documents):
            candidate = by_row[row], form
            if content not in found or candidate > found[content]:
                found[content] = candidate


def _top(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Positions of the `count` highest scores, in no order."""
    if len(scores) <= count:
        return np.arange(len(scores))
    return np.argpartition(-scores, count)[:count]


def _graph_rows(
    path: Path, array: NDArray[np.float32], vector: NDArray[np.float32], count: int
) -> NDArray[np.int64] | None:
    """Likely best rows: from the graph, and all behind it; None where there is no graph."""
    if not path.with_suffix(_GRAPH_SUFFIX).exists():
        return None
    from chunkwise.rag.retrieval import ann

    graph = ann.Graph(path)
    covered = min(len(graph), len(array))
    near = graph.search(vector, count)
    return np.concatenate([near[near < covered], np.arange(covered, len(array))])
