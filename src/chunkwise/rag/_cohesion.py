"""How well chunks stand for themselves: for a chunker that chooses among cuts, and to measure.

Source: boundary clarity: MoC (arXiv 2503.09600), as in Meta-Chunking's code; ChunkScore: QChunker
    (arXiv 2603.11650), section 3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.scores import ScoringModel
from chunkwise.types import Embedder

T = TypeVar("T")

_ALPHA = 1e-3
_WEIGHT = 0.3


class ChunkScore(NamedTuple):
    """What QChunker's measure says of chunks.

    Attributes:
        total: `weight * independence + (1 - weight) * separation`.
        independence: Mean boundary clarity; NaN for one chunk.
        separation: Mean log-determinant of the chunks' centred vectors.
    """

    total: float
    independence: float
    separation: float


def runs(chunks: Sequence[T], dim: int) -> list[Sequence[T]]:
    """Runs of neighbours, at most a quarter as many as a vector has dimensions: with more,
    separation falls for that alone. Runs of one are left out."""
    most = max(dim // 4, 2)
    found = [chunks[first : first + most] for first in range(0, len(chunks), most)]
    return [run for run in found if len(run) > 1]


def boundary_clarity(model: ScoringModel, chunks: Sequence[str]) -> NDArray[np.float64]:
    """Perplexity of each chunk behind the one before it over that by itself; 1: the one before
    says nothing of it, so the cut is clean: `(num_chunks - 1,)`.

    Raises:
        RequestError: Two chunks together are too long for the model, or one has no tokens.
    """
    pairs = itertools.pairwise(chunks)
    ratios = [
        mean_loss(model, before, chunk) - mean_loss(model, "", chunk) for before, chunk in pairs
    ]
    return np.exp(np.array(ratios, dtype=np.float64))


def separation(vectors: NDArray[np.floating], alpha: float = _ALPHA) -> float:
    """`logdet(Z' J Z + alpha I) / K` of K vectors `(K, dim)`, each centred over its dimensions."""
    centred = vectors - vectors.mean(1, keepdims=True)
    gram = centred.astype(np.float64) @ centred.T.astype(np.float64)
    _, value = np.linalg.slogdet(gram + alpha * np.eye(len(gram)))
    return float(value) / len(gram)


def chunk_score(
    model: ScoringModel, embedder: Embedder, chunks: Sequence[str], *, weight: float = _WEIGHT
) -> ChunkScore:
    """ChunkScore of a document's chunks, in order; at least one.

    Args:
        model: Foresees.
        embedder: Embeds.
        chunks: Their texts.
        weight: Of independence, in [0, 1].

    Raises:
        ConfigError: There is no chunk, or the weight is out of range.
        RequestError: Two chunks together are too long for the model, or one has no tokens.
    """
    if not chunks or not 0 <= weight <= 1:
        raise ConfigError(
            f"ChunkScore needs chunks and a `weight` in [0, 1], got {len(chunks)} chunks and "
            f"{weight!r}."
        )
    apart = separation(embedder.embed(list(chunks)))
    if len(chunks) == 1:
        return ChunkScore(apart, math.nan, apart)
    clear = float(boundary_clarity(model, chunks).mean())
    return ChunkScore(weight * clear + (1 - weight) * apart, clear, apart)


def mean_loss(model: ScoringModel, before: str, chunk: str) -> float:
    """Mean loss of a chunk's tokens, in nats."""
    return float(model.nll(before, chunk).mean(dtype=np.float64))
