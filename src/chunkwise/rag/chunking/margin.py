"""Cuts where a language model that is asked would rather split a text than keep it together.

Source: Meta-Chunking (arXiv 2410.12788), margin sampling and dynamic merging.
Differs: the two answers are scored as texts behind the prompt, not read off one token, so any
    tokenizer will do; the prompt is ours. Merging ends at `size`, and what is too long is cut
    again.
Exact when: sentences and merged chunks are within `size`.
Cost: two short readings a gap between sentences, each behind the two pieces of text: far more than
    `perplexity`. It takes a model that follows instructions.
Helps or hurts: not measured; the packaged model follows none.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from chunkwise.errors import ConfigError
from chunkwise.rag.chunking.pieces import Ruler, check_sizes, merge_while_fit, tiled
from chunkwise.scores import ScoringModel
from chunkwise.types import Document, Prompt, Query, Segment, Segmenter, Span, TokenCounter

__all__ = ["MarginChunker"]

Left = Literal["sentence", "chunk"]
_SPLIT, _KEEP = "1", "2"
_LAST = 5  # margins whose mean is the dynamic threshold
_ASK = (
    "Two neighbouring pieces of a document follow. Should the document be split between them, or "
    "do they belong together?\n1: split them\n2: keep them together\n\nFirst piece: {}\n\n"
    "Second piece: {}\n\nAnswer with 1 or 2 only."
)


@dataclass(frozen=True, kw_only=True)
class MarginChunker:
    """Cuts where splitting is more likely than keeping.

    Attributes:
        counter: Counts the tokens.
        segmenter: Finds the sentences.
        model: Is asked.
        size: Most tokens of a chunk.
        overlap: Tokens of the chunk before that a chunk repeats, at most; in [0, size).
        left: What the second piece, a sentence, is held against: the `sentence` before it or the
            `chunk` so far.
        threshold: How much likelier keeping must be than splitting, in [-1, 1].
        dynamic: Once there are five margins, the mean of the last five is the threshold.
    """

    counter: TokenCounter
    segmenter: Segmenter
    model: ScoringModel
    size: int = 140
    overlap: int = 0
    left: Left = "sentence"
    threshold: float = 0.0
    dynamic: bool = True

    def __post_init__(self) -> None:
        check_sizes(self.size, self.overlap)
        if self.left not in get_args(Left):
            raise ConfigError(f"`left` must be sentence or chunk, got {self.left!r}.")
        if not -1 <= self.threshold <= 1:
            raise ConfigError(f"`threshold` must be in [-1, 1], got {self.threshold!r}.")

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
        ends = list(self._ends(ruler, pieces, room))
        return merge_while_fit(ruler, pieces, ends, room)

    def _ends(self, ruler: Ruler, pieces: Sequence[Span], room: int) -> Iterator[int]:
        """One past the last sentence of each chunk but the last."""
        start, threshold = pieces[0].start, self.threshold
        margins: list[float] = []
        for i, (before, after) in enumerate(itertools.pairwise(pieces), start=1):
            is_full = not ruler.seems_to_fit(start, after.end, room)
            left = Span(start, before.end) if self.left == "chunk" and not is_full else before
            margin = self._margin(ruler.text[slice(*left)], ruler.text[slice(*after)])
            if self.dynamic and len(margins) >= _LAST:
                threshold = float(np.mean(margins[-_LAST:]))
            margins.append(margin)
            if is_full or margin <= threshold:
                yield i
                start = after.start

    def _margin(self, first: str, second: str) -> float:
        """How much likelier keeping is than splitting, among the two."""
        prompt = Prompt((Segment("user", _ASK.format(first, second)),))
        split, keep = (float(self.model.nll(prompt, answer).sum()) for answer in (_SPLIT, _KEEP))
        return float(np.tanh((split - keep) / 2))
