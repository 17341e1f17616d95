"""The exact words that answer, found by a small trained reader; or "not found".

Source: Zhang et al., Retrospective Reader (arXiv 2001.09694), on MiniLM; see `network.py`.
Differs: several passages at once: their spans compete in one softmax with "no answer". The final
    verdict is a logistic regression over the span's odds, the whole window's and the span's
    share, fitted on held-out questions; below its threshold the answer is that there is none.
Exact when: always verbatim: the text is a slice of a passage.
Cost: one pass of a 6-layer encoder over question and passages; long passages in windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from chunkwise.errors import ConfigError
from chunkwise.rag.answering.base import NOT_FOUND_TEXT, citation
from chunkwise.rag.answering.units import units_of
from chunkwise.types import Answer, Citation, Hit, Query, Segmenter

__all__ = ["ReaderAnswerer"]


class _Found(Protocol):
    @property
    def passage(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def confidence(self) -> float: ...


class _Reader(Protocol):
    """What reads: `reading.SpanReader`, which needs torch."""

    @property
    def threshold(self) -> float: ...

    def read(self, question: str, passages: Sequence[str]) -> Sequence[_Found]: ...


@dataclass(frozen=True, slots=True)
class ReaderAnswerer:
    """Answers with one verbatim span, or says that there is no answer.

    Cited are the sentence or table row in which the span stands, and those of the same words where
    other passages give them as an answer too.

    Attributes:
        reader: The trained model.
        threshold: Confidence below which the answer is "not found", in [0, 1]. None: the
            model's own.
        max_citations: Most places that are cited, at least 1.
        segmenter: Finds the sentences; None: the words alone are cited.
    """

    reader: _Reader
    threshold: float | None = None
    max_citations: int = 3
    segmenter: Segmenter | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ConfigError(f"`threshold` must be in [0, 1] or None, got {self.threshold!r}.")
        if self.max_citations < 1:
            raise ConfigError(f"`max_citations` must be at least 1, got {self.max_citations!r}.")

    def stream(self, query: Query, hits: Sequence[Hit]) -> Iterator[str | Answer]:
        """See `Answerer.stream`."""
        answer = self._answer(query, hits)
        yield answer.text
        yield answer

    def _answer(self, query: Query, hits: Sequence[Hit]) -> Answer:
        found = self.reader.read(query.text, [hit.chunk.text for hit in hits])
        least = self.reader.threshold if self.threshold is None else self.threshold
        usage, fidelity = {"passages": len(hits)}, {"kind": "verbatim"}
        confidence = found[0].confidence if found else 0.0
        if not found or confidence < least:
            return Answer(
                NOT_FOUND_TEXT, found=False, confidence=confidence, usage=usage, fidelity=fidelity
            )
        words = _words(hits, found[0])
        cited: dict[Citation, None] = {}
        for place in found:
            if len(cited) < self.max_citations and _plain(_words(hits, place)) == _plain(words):
                cited[self._cited(hits[place.passage], place)] = None
        return Answer(
            words,
            tuple(cited),
            confidence=confidence,
            usage=usage,
            fidelity=fidelity,
        )

    def _cited(self, hit: Hit, found: _Found) -> Citation:
        """Where a span stands, with what is said around it."""
        start, end = found.start, found.end
        units = () if self.segmenter is None else units_of([hit], self.segmenter)
        for unit in units:
            if unit.start < found.end and found.start < unit.end:
                start, end = min(start, unit.start), max(end, unit.end)
        return citation(hit, start, end)


def _words(hits: Sequence[Hit], found: _Found) -> str:
    return hits[found.passage].chunk.text[found.start : found.end]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
