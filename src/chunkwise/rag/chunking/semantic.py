"""Cuts between sentences where the meaning changes most, by an embedding model.

Source: G. Kamradt, 5 Levels of Text Splitting (2023): distance of the windows of sentences on the
    two sides of a gap; cut where it is above a percentile of the document's distances.
Differs: the size limit is hard and the cuts are found together: a dynamic programme takes the
    tiling that fits with the largest sum of (distance - threshold) over its cuts. So every gap
    above the threshold is cut, and where the limit asks for more cuts they go to the largest
    distances left. The windows of the two sides do not share sentences.
Exact when: all sections fit `size`; then the cuts are those of the plain threshold.
Cost: one embedding per sentence; the programme is O(sentences x sentences in a chunk).
Helps or hurts: not measured yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.rag.chunking.pieces import Ruler, best_runs, check_ratio, check_sizes, tiled
from chunkwise.types import Document, Embedder, Query, Segmenter, Span, TokenCounter

__all__ = ["SemanticChunker"]


@dataclass(frozen=True, kw_only=True)
class SemanticChunker:
    """Cuts at the largest distances between neighbouring windows of sentences.

    Attributes:
        counter: Counts the tokens.
        segmenter: Finds the sentences.
        embedder: Embeds them.
        size: Most tokens of a chunk.
        overlap: Tokens of the chunk before that a chunk repeats, at most; in [0, size).
        window: Sentences on each side of a gap that are compared, from 1.
        percentile: Share of the gaps that are no boundary, in [0, 1].
    """

    counter: TokenCounter
    segmenter: Segmenter
    embedder: Embedder
    size: int = 140
    overlap: int = 0
    window: int = 2
    percentile: float = 0.8

    def __post_init__(self) -> None:
        check_sizes(self.size, self.overlap)
        check_ratio("percentile", self.percentile)
        if self.window < 1:
            raise ConfigError(f"`window` must be at least 1, got {self.window!r}.")

    def split(self, document: Document, query: Query | None = None) -> list[Span]:
        """Spans of the chunks; see `Chunker`."""
        return tiled(
            document,
            self._runs,
            counter=self.counter,
            segmenter=self.segmenter,
            size=self.size,
            overlap=self.overlap,
        )

    def _runs(self, ruler: Ruler, pieces: Sequence[Span], room: int) -> list[tuple[int, int]]:
        """Runs between the largest distances."""
        vectors = self.embedder.embed([ruler.text[a:b] for a, b in pieces])
        gaps = _distances(vectors, self.window)
        worth: list[float] = [0.0, *(gaps - np.quantile(gaps, self.percentile)).tolist()]
        return best_runs(ruler, pieces, room, lambda i, _: worth[i])


def _distances(vectors: NDArray[np.float32], window: int) -> NDArray[np.float64]:
    """Cosine distance of the windows before and after each gap: `(num_pieces - 1,)`."""
    sums = np.zeros((len(vectors) + 1, vectors.shape[1]))
    np.cumsum(vectors, axis=0, out=sums[1:])
    gap = np.arange(1, len(vectors))
    left = sums[gap] - sums[np.maximum(gap - window, 0)]
    right = sums[np.minimum(gap + window, len(vectors))] - sums[gap]
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray(1 - (left * right).sum(axis=1) / np.maximum(norms, 1e-12))
