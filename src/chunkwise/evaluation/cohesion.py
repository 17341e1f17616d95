"""How well chunks stand for themselves, without questions: by a language model and an embedder.

Source: boundary clarity and chunk stickiness: MoC (arXiv 2503.09600), as in Meta-Chunking's code;
    ChunkScore: QChunker (arXiv 2603.11650), section 3.
Differs: perplexities are means of losses over whole chunks, as there; chunks that a model cannot
    read at once are refused, not cut. Stickiness is over neighbours only unless `reach` is more.
Exact when: always; what they are worth is another question: compare them only at the same model,
    embedder and mean length of chunks. ChunkScore's separation lies between log(alpha) and 0 and
    outweighs the rest, and with more chunks than dimensions it falls for that alone.
Cost: `reach` + 1 readings of each chunk; separation O(chunks^2 x dimensions).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from chunkwise.errors import ConfigError
from chunkwise.rag._cohesion import chunk_score, mean_loss, runs
from chunkwise.scores import ScoringModel
from chunkwise.types import Embedder


def stickiness(
    model: ScoringModel, chunks: Sequence[str], *, threshold: float = 0.2, reach: int = 1
) -> float:
    """How entangled chunks are: the structural entropy, in bits, of a graph in which two are
    joined by what one helps to foresee the other; lower is less.

    Args:
        model: Foresees.
        chunks: In order.
        threshold: Shares of a perplexity from which one counts as helping.
        reach: How many chunks before each one are asked.

    Raises:
        ConfigError: `reach` is below 1.
        RequestError: Two chunks together are too long for the model, or one has no tokens.
    """
    if reach < 1:
        raise ConfigError(f"`reach` must be at least 1, got {reach!r}.")
    degrees = np.zeros(len(chunks))
    for j, chunk in enumerate(chunks):
        alone = mean_loss(model, "", chunk)
        for i in range(max(j - reach, 0), j):
            helped = 1.0 - math.exp(mean_loss(model, chunks[i], chunk) - alone)
            if helped > threshold:
                degrees[[i, j]] += helped
    shares = degrees[degrees > 0] / max(degrees.sum(), 1e-12)
    return float(-(shares * np.log2(shares)).sum())


def cohesion(
    model: ScoringModel, embedder: Embedder, documents: Iterable[Sequence[str]]
) -> Iterator[dict[str, float]]:
    """All measures of each run of neighbouring chunks, at most a quarter as many as a vector has
    dimensions; runs of one chunk are left out.

    Args:
        model: Foresees.
        embedder: Embeds.
        documents: The chunks of each document, in order.

    Raises:
        RequestError: Two chunks together are too long for the model.
    """
    for chunks in documents:
        for run in runs(chunks, embedder.dim):
            score = chunk_score(model, embedder, run)
            yield {
                "chunk_score": score.total,
                "boundary_clarity": score.independence,
                "separation": score.separation,
                "stickiness": stickiness(model, run),
            }
