"""Cuts behind sentences that a language model could foresee before ones that it could not.

A sentence's loss is the mean loss of its tokens behind all text before it. Where it is a minimum a
thought was being completed, and another one begins behind it.

Source: Meta-Chunking (arXiv 2410.12788), perplexity chunking and dynamic merging.
Differs: the text is tokenised once and as a whole, and tokens belong to the sentence in which their
    words stand (the authors' code joins English sentences without blanks). Mode `dp` takes the
    tiling that fits `size` with the largest sum over its chunks of what the cut before each is
    worth, d / (1 + d) for a minimum of depth d, less `cost`: it stands for the paper's threshold
    and its greedy merging together; mode `paper` has both as published, a
    threshold in nats (their code compares losses, the paper says perplexities) and merging up to
    `size`, and what is too long is cut again.
Exact when: mode `paper`, sentences and merged chunks within `size`.
Cost: one pass of the language model over the text.
Helps or hurts: chunks of 120 tokens in the mean, hybrid search, Chroma's three corpora (231
    questions): recall at 400 tokens -3.3 points [-7.4, +0.6] against `recursive`. The packaged
    model knows hardly any text but its own; with a better one it was not measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.rag.chunking.pieces import Ruler, best_runs, check_sizes, merge_while_fit, tiled
from chunkwise.scores import TextScorer, TokenLosses
from chunkwise.types import Document, Query, Segmenter, Span, TokenCounter

__all__ = ["PerplexityChunker"]

Mode = Literal["dp", "paper"]
_ENOUGH = 100  # minima before the dynamic threshold is one


@dataclass(frozen=True, kw_only=True)
class PerplexityChunker:
    """Cuts behind minima of the loss.

    Attributes:
        counter: Counts the tokens.
        segmenter: Finds the sentences.
        scorer: Predicts the text.
        size: Most tokens of a chunk.
        overlap: Tokens of the chunk before that a chunk repeats, at most; in [0, size).
        mode: `dp`, or `paper`.
        threshold: Nats by which a minimum must lie below one of its neighbours.
        dynamic: In mode `paper`: once there are a hundred minima, the least depth of them is the
            threshold.
        cost: In mode `dp`: what a chunk costs, where no minimum is worth 1. With 1 or more no cut
            is made for its own sake, but one more may let others fall on deeper minima.
    """

    counter: TokenCounter
    segmenter: Segmenter
    scorer: TextScorer
    size: int = 140
    overlap: int = 0
    mode: Mode = "dp"
    threshold: float = 0.0
    dynamic: bool = False
    cost: float = 1.0

    def __post_init__(self) -> None:
        check_sizes(self.size, self.overlap)
        if self.mode not in get_args(Mode):
            raise ConfigError(f"`mode` must be dp or paper, got {self.mode!r}.")
        for name in ("threshold", "cost"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"`{name}` must be at least 0, got {getattr(self, name)!r}.")

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
        """The paper's chunks, merged from the left while they fit; or chunks with deep minima
        between them, and few."""
        losses = sentence_losses(self.scorer.token_losses(ruler.text), pieces)
        if self.mode == "paper":
            ends = [i + 1 for i in minima(losses, self.threshold, dynamic=self.dynamic)]
            return merge_while_fit(ruler, pieces, ends, room)
        depth = np.maximum(depths(losses) - self.threshold, 0.0)
        worth: list[float] = [0.0, *(depth[:-1] / (1.0 + depth[:-1])).tolist()]
        return best_runs(ruler, pieces, room, lambda i, _: worth[i] - self.cost)


def sentence_losses(losses: TokenLosses, sentences: Sequence[Span]) -> NDArray[np.float64]:
    """Mean loss of the tokens of each sentence: `(num_sentences,)`.

    Many tokens begin with the blank before their word, so one that starts between two sentences is
    the second one's. A sentence without tokens has the loss of the one before it.
    """
    edges = np.array([sentences[0].start, *(sentence.end for sentence in sentences)])
    places = np.searchsorted(losses.starts, edges)
    sums = np.concatenate([[0.0], np.cumsum(losses.nats, dtype=np.float64)])
    counts = np.diff(places)
    found = np.diff(sums[places]) / np.maximum(counts, 1)
    last = np.maximum.accumulate(np.where(counts > 0, np.arange(len(counts)), 0))
    return np.asarray(found[last])


def depths(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each sentence lies below the higher of its neighbours, 0 where it is no minimum;
    of equal ones the first is the minimum: `(num_sentences,)`."""
    found = np.zeros(len(losses))
    fall, rise = losses[:-2] - losses[1:-1], losses[2:] - losses[1:-1]
    is_minimum = (fall > 0) & (rise >= 0)
    found[1:-1] = np.where(is_minimum, np.maximum(fall, rise), 0.0)
    return found


def minima(losses: NDArray[np.float64], threshold: float, *, dynamic: bool = False) -> list[int]:
    """Sentences that end a chunk, rising; see `PerplexityChunker`."""
    found, gaps = [], []
    for i in range(1, len(losses) - 1):
        fall, rise = losses[i - 1] - losses[i], losses[i + 1] - losses[i]
        if fall > 0 and rise >= 0 and max(fall, rise) >= threshold:
            found.append(i)
            gaps.append(min(fall, rise))
            if dynamic and len(gaps) >= _ENOUGH:
                threshold = min(gaps)
    return found
