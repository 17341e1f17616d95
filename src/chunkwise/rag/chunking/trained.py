"""Cuts where a trained model says that a topic ends between two paragraphs or sentences.

Source: SAGE (arXiv 2503.01713), segmentation: [x1, x2, x1 - x2, x1 * x2] of the vectors of
    neighbours through a small network; Structural Text Segmentation of Legal Documents (arXiv
    2012.03619): labels for free from headings, learnt from consecutive paragraphs.
Differs: layout is looked at too (lengths, numbering, bullets, indentation). In place of SAGE's
    threshold alone, and of independent decisions, a dynamic programme takes the tiling that fits
    with the largest sum of log-odds over its cuts. A heading of the document begins a chunk.
Exact when: all sections fit `size` and `min_size` is 1: then it is the plain threshold.
Cost: one embedding a paragraph or sentence; the programme is O(n x units in a chunk).
Helps or hurts: in ten unseen documents whose headings were hidden it found the sections with a Pk
    of .30; cosine distance .40, chance .49. Hybrid search, Chroma's three corpora (231 questions),
    chunks of 115 tokens against `recursive`'s of 120: recall at 400 tokens -0.8 points
    [-4.8, +3.0], IoU +0.6 [+0.1, +1.1]; with 100 questions of SQuAD -2.0 [-8.0, +4.0] and 0.0.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from chunkwise.errors import ConfigError
from chunkwise.rag.chunking.pieces import (
    Ruler,
    add_overlap,
    best_runs,
    check_sizes,
    fitting_pieces,
    merge,
    trim,
)
from chunkwise.rag.chunking.sections import (
    SectionModel,
    embedded,
    layout_features,
    paragraphs,
    read_model,
)
from chunkwise.types import Document, Embedder, Query, Segmenter, Span, TokenCounter

__all__ = ["TrainedChunker"]

_LARGEST = 6.0  # log-odds that count
_HEADING = 8.0  # what a cut before a heading is worth
_NEVER = -100.0  # and one behind it
_TOO_SHORT = -1000.0


@dataclass(frozen=True, kw_only=True)
class TrainedChunker:
    """Cuts where topics end.

    Attributes:
        counter: Counts the tokens.
        segmenter: Finds the sentences, for a model of sentences.
        embedder: Embeds; it must be the one that the model was trained with.
        model_folder: The model's folder, made by `chunkwise train boundaries`.
        size: Most tokens of a chunk.
        overlap: Tokens of the chunk before that a chunk repeats, at most; in [0, size).
        threshold: Probability, over the one the model was fitted to, above which a topic ends, in
            (0, 1).
        min_size: Fewest tokens of a chunk where that can be, in [1, size].
    """

    counter: TokenCounter
    segmenter: Segmenter
    embedder: Embedder
    model_folder: str
    size: int = 140
    overlap: int = 0
    threshold: float = 0.5
    min_size: int = 1
    fingerprint: str = field(init=False)
    _model: SectionModel = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_sizes(self.size, self.overlap)
        if not 0 < self.threshold < 1:
            raise ConfigError(f"`threshold` must be in (0, 1), got {self.threshold!r}.")
        if not 1 <= self.min_size <= self.size:
            raise ConfigError(
                f"`min_size` must be in [1, size={self.size}], got {self.min_size!r}."
            )
        model = read_model(Path(self.model_folder))
        if model.embedder != self.embedder.fingerprint:
            raise ConfigError(
                f"The model in {self.model_folder!r} was trained on vectors of {model.embedder!r}, "
                f"and `embedder` is {self.embedder.fingerprint!r}: set `embedder` to that one, or "
                "train another model with `chunkwise train boundaries`."
            )
        object.__setattr__(self, "_model", model)
        object.__setattr__(self, "fingerprint", f"trained-{model.fingerprint}")

    def split(self, document: Document, query: Query | None = None) -> list[Span]:
        """Spans of the chunks; see `Chunker`."""
        ruler, room = Ruler(document, self.counter, self.size), self.size - self.overlap
        units = self._units(document)
        edges = [0, *(unit.start for unit in units), len(document.text)]
        spans = (Span(*pair) for pair in itertools.pairwise(edges))
        pieces = fitting_pieces(ruler, spans, room)
        if len(pieces) < 2:
            return pieces
        worth = [0.0, *self._worth(document, units, pieces)]
        firsts = [ruler.index(piece.start) for piece in pieces]
        lasts = [ruler.index(piece.end) for piece in pieces]
        shortest = min(self.min_size, room)

        def gain(i: int, j: int) -> float:
            is_short = max(1, lasts[j - 1] - firsts[i]) < shortest
            return worth[i] + (_TOO_SHORT if is_short else 0.0)

        runs = best_runs(ruler, pieces, room, gain)
        return add_overlap(ruler, merge(ruler, pieces, runs, room), self.overlap)

    def _units(self, document: Document) -> list[Span]:
        """Paragraphs or sentences, and headings, in order."""
        if self._model.unit == "sentence":
            return self.segmenter.split(document.text)
        headings = [Span(b.start, b.end) for b in document.blocks if b.kind == "heading"]
        return sorted([*paragraphs(document), *headings])

    def _worth(
        self, document: Document, units: Sequence[Span], pieces: Sequence[Span]
    ) -> list[float]:
        """What a cut is worth in each gap between pieces."""
        text = document.text
        vectors = self.embedder.embed([embedded(text[a:b]) for a, b in pieces])
        odds = self._model.odds(vectors, layout_features(text, pieces))
        needed = float(np.log(self.threshold) - np.log1p(-self.threshold))
        bounded = np.clip(odds - needed, -_LARGEST, _LARGEST).tolist()
        starts = {whole.start for unit in units if (whole := trim(text, *unit))}
        headings = _Headings(document)
        found: list[float] = []
        for value, before, after in zip(bounded, pieces, pieces[1:], strict=False):
            if headings.hold(before):
                found.append(_NEVER)
            elif headings.hold(after):
                found.append(_HEADING)
            else:
                found.append(value if after.start in starts else -_LARGEST)
        return found


class _Headings:
    """Where a document has headings."""

    def __init__(self, document: Document) -> None:
        self._blocks = [block for block in document.blocks if block.kind == "heading"]
        self._starts = [block.start for block in self._blocks]

    def hold(self, piece: Span) -> bool:
        """Whether the piece begins within a heading."""
        at = bisect.bisect_right(self._starts, piece.start) - 1
        return at >= 0 and piece.start < self._blocks[at].end
