"""The one of several ways to cut a document whose chunks stand best for themselves.

Source: QChunker (arXiv 2603.11650): several partitions of a document, of which the highest
    ChunkScore is taken.
Differs: the partitions come from other chunkers here, not from sampling a trained model, so no
    outline of questions is generated. ChunkScore prefers few, large chunks whatever their quality,
    so only partitions whose mean chunk is about as long as the first one's compete.
Exact when: never.
Cost: all candidates, and two readings of each of their chunks by a language model.
Helps or hurts: chunks of 120 tokens in the mean, hybrid search, Chroma's three corpora (231
    questions), the packaged model: recall at 400 tokens -4.5 points [-8.6, -0.5] against
    `recursive`, its first candidate. It hurts there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chunkwise.errors import ConfigError
from chunkwise.rag._cohesion import chunk_score, runs
from chunkwise.rag.chunking.base import Chunker, chunkers
from chunkwise.rag.chunking.pieces import check_sizes
from chunkwise.registry import Spec, spec_name
from chunkwise.scores import ScoringModel, TextScorer
from chunkwise.types import (
    BoundaryScorer,
    Document,
    Embedder,
    Query,
    Segmenter,
    Span,
    TokenCounter,
)

__all__ = ["QuestionAwareChunker"]

_OWN = "question_aware"


@dataclass(frozen=True, kw_only=True)
class QuestionAwareChunker:
    """Takes the candidate with the highest ChunkScore.

    Attributes:
        counter: Counts the tokens.
        segmenter: Finds the sentences, and says how surely they end for candidates that ask.
        embedder: Embeds chunks, and what candidates embed.
        scorer: Foresees texts, for candidates that ask.
        model: Foresees chunks.
        size: Most tokens of a chunk.
        overlap: Tokens of the chunk before that a chunk repeats, at most; in [0, size).
        candidates: Chunkers that compete; the first one says how long chunks are about.
        weight: Of clean cuts beside distinct chunks, in [0, 1].
        tolerance: How far a candidate's mean length may be from the first one's, as a share.
        fingerprint: Of models that candidates have of their own; empty: none has.
    """

    counter: TokenCounter
    segmenter: Segmenter
    embedder: Embedder
    scorer: TextScorer
    model: ScoringModel
    size: int = 140
    overlap: int = 0
    candidates: Sequence[Spec] = ("recursive", "structural", "sentence", "perplexity")
    weight: float = 0.3
    tolerance: float = 0.2
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        check_sizes(self.size, self.overlap)
        if isinstance(self.candidates, str | Mapping) or not self.candidates:
            raise ConfigError(f"`candidates` must be a list of chunkers, got {self.candidates!r}.")
        if _OWN in map(spec_name, self.candidates):
            raise ConfigError(f"`candidates` must not hold {_OWN!r} itself.")
        for name in ("weight", "tolerance"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"`{name}` must be in [0, 1], got {getattr(self, name)!r}.")
        self._check_parts()
        built = self._built()
        for chunker in built:
            if chunker.size > self.size or chunker.overlap > self.overlap:
                raise ConfigError(
                    f"`candidates` must keep `size` {self.size} and `overlap` {self.overlap}, got "
                    f"{chunker.size} and {chunker.overlap}."
                )
        models = [getattr(chunker, "fingerprint", "") for chunker in built]
        object.__setattr__(self, "fingerprint", " ".join(filter(None, models)))

    def _check_parts(self) -> None:
        """Refuse candidates that want what is not there."""
        for candidate in self.candidates:
            name = spec_name(candidate)
            fields = chunkers.options(name)
            if "boundaries" in fields and not isinstance(self.segmenter, BoundaryScorer):
                raise ConfigError(
                    f"`candidates` holds {name!r}, for which the segmenter must say how sure it "
                    'is: set segmenter={name = "learned", folder = ...}, or leave the candidate '
                    "out."
                )
            if "model_folder" in fields and (
                isinstance(candidate, str) or "model_folder" not in candidate
            ):
                raise ConfigError(
                    f"`candidates` holds {name!r} without a model: give "
                    f'{{name = "{name}", model_folder = ...}}; `chunkwise train boundaries` makes '
                    "one."
                )

    def _built(self) -> list[Chunker]:
        parts: dict[str, Any] = {
            "counter": self.counter,
            "segmenter": self.segmenter,
            "boundaries": self.segmenter,
            "embedder": self.embedder,
            "scorer": self.scorer,
            "model": self.model,
            "size": self.size,
            "overlap": self.overlap,
        }
        return [chunkers.build(spec, **parts) for spec in self.candidates]

    def split(self, document: Document, query: Query | None = None) -> list[Span]:
        """Spans of the chunks; see `Chunker`."""
        cuts = [chunker.split(document, query) for chunker in self._built()]
        first = cuts[0]
        if len(first) < 2:
            return first
        alike: list[list[Span]] = []
        for cut in cuts:
            if cut not in alike and self._is_alike(cut, first):
                alike.append(cut)
        return max(alike, key=lambda cut: self._score(document.text, cut))

    def _is_alike(self, cut: Sequence[Span], first: Sequence[Span]) -> bool:
        """Whether there are about as many chunks, and some to compare."""
        return len(cut) > 1 and abs(len(first) / len(cut) - 1) <= self.tolerance

    def _score(self, text: str, cut: Sequence[Span]) -> float:
        """Mean ChunkScore of runs of chunks."""
        texts = [[text[a:b] for a, b in run] for run in runs(cut, self.embedder.dim)]
        scores = [
            chunk_score(self.model, self.embedder, some, weight=self.weight).total for some in texts
        ]
        return float(np.mean(scores))
