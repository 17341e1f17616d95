"""Puts pieces of some 50 tokens together so that the pieces of a chunk are alike.

Source: B. Smith and A. Troynikov, Evaluating Chunking Strategies for Retrieval (Chroma, 2024),
    ClusterSemanticChunker: a dynamic programme over the similarity matrix less its mean.
Differs: the mean is that of the document alone, so a new document never re-cuts an old one; the
    limit is in tokens and hard; only similarities within the longest chunk are computed, so
    memory is O(pieces x pieces in a chunk).
Exact when: `size <= piece_size`: the pieces themselves.
Cost: one embedding per piece; the programme is O(pieces x pieces in a chunk).
Helps or hurts: not measured yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.rag._tiling import segment_dp
from chunkwise.rag.chunking.pieces import (
    Ruler,
    add_overlap,
    breaks_of,
    check_sizes,
    longest_run,
    merge,
    pack,
)
from chunkwise.types import Document, Embedder, Query, Span, TokenCounter

__all__ = ["ClusterChunker"]


@dataclass(frozen=True, kw_only=True)
class ClusterChunker:
    """Chunks with the largest similarity inside, by a dynamic programme over small pieces.

    Attributes:
        counter: Counts the tokens.
        embedder: Embeds the pieces.
        size: Most tokens of a chunk.
        overlap: Tokens of the chunk before that a chunk repeats, at most; in [0, size).
        piece_size: Most tokens of a piece, from 1.
    """

    counter: TokenCounter
    embedder: Embedder
    size: int = 140
    overlap: int = 0
    piece_size: int = 50

    def __post_init__(self) -> None:
        check_sizes(self.size, self.overlap)
        if self.piece_size < 1:
            raise ConfigError(f"`piece_size` must be at least 1, got {self.piece_size!r}.")

    def split(self, document: Document, query: Query | None = None) -> list[Span]:
        """Spans of the chunks; see `Chunker`."""
        ruler, room = Ruler(document, self.counter, self.size), self.size - self.overlap
        whole, choose = Span(0, len(document.text)), breaks_of(document.text)
        small = min(self.piece_size, room)
        pieces = list(pack(ruler, whole, small, choose=choose, fill=0.5))
        if len(pieces) < 2:
            return pieces
        vectors = self.embedder.embed([document.text[a:b] for a, b in pieces])
        max_len = longest_run(ruler, pieces, room)
        within = _similarity_within(vectors, max_len)

        def gain(i: int, j: int) -> float:
            if j - i > 1 and not ruler.seems_to_fit(pieces[i].start, pieces[j - 1].end, room):
                return -math.inf
            return float(within[j - 1, j - i - 1])

        tiles = segment_dp(gain, len(pieces), 1, max_len)
        return add_overlap(ruler, merge(ruler, pieces, tiles, room), self.overlap)


def _similarity_within(vectors: NDArray[np.float32], max_len: int) -> NDArray[np.float64]:
    """Sum of the pairs' similarities less their mean: `[last, length - 1]` of each range."""
    n = len(vectors)
    mean = (float(np.square(vectors.sum(axis=0, dtype=np.float64)).sum()) - n) / (n * (n - 1))
    added = np.zeros((n, max_len))  # [j, d]: similarity of piece j to the d pieces before it
    for distance in range(1, min(max_len, n)):
        pairs = np.einsum("ij,ij->i", vectors[distance:], vectors[:-distance])
        added[distance:, distance] = pairs - mean
    added = np.cumsum(added, axis=1)
    within = np.zeros((n, max_len))
    for length in range(1, max_len):
        within[1:, length] = within[:-1, length - 1] + added[1:, length]
    return within
