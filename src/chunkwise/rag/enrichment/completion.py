"""Sentences that stand before a chunk and without which it is not understood: who "she" is, what a
term means.

Candidates are the last sentences before the chunk, and those in which the document first used words
of the chunk. A candidate is taken if a language model foresees the chunk better behind it.

Source: QChunker (arXiv 2603.11650), integrity reviewer and completer.
Differs: sentences of the document, word by word, found by search and a language model's losses; in
    the paper a trained reviewer lists what is missing and a trained rewriter writes it into the
    chunk. Headings are not candidates: `headings` says them. In scripts without blanks words do
    not come again, so that only the last sentences are candidates.
Exact when: `max_tokens` is 0: texts are embedded alone.
Cost: a reading of the chunk by the model for each candidate, and again for each one taken; again at
    each change of the document.
Helps or hurts: at most 64 tokens of it behind the headings, with all-MiniLM-L6-v2, hybrid search,
    recursive chunks of 140 tokens, 231 questions on three corpora of Chroma's evaluation, the
    packaged model: recall at 400 tokens -3.1 points [-6.9, +0.4] against headings alone, at 1,600
    tokens -2.7 [-5.3, -0.5] (95 % paired bootstrap): what comes before is found for what follows.
    It hurts there; who reads a chunk alone sees what it leans on (`chunk --enriched`).
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from chunkwise.errors import ConfigError
from chunkwise.rag._cohesion import mean_loss
from chunkwise.rag._stopwords import STOPWORDS
from chunkwise.rag.enrichment.base import check_least, fitted
from chunkwise.scores import ScoringModel
from chunkwise.types import Chunk, Document, Segmenter, Span, TokenCounter

__all__ = ["CompletionEnricher"]

_WORD = re.compile(r"[^\W\d_]{3,40}")
_MOST_CHARS = 1000  # of a sentence


@dataclass(frozen=True, kw_only=True)
class CompletionEnricher:
    """What a chunk needs of the text before it, verbatim.

    Attributes:
        counter: Counts the tokens.
        segmenter: Finds the sentences.
        foreseer: Says how well a chunk is foreseen.
        max_tokens: Most tokens of all sentences together.
        most: Most sentences.
        last: How many of the last sentences before a chunk are candidates.
        introducing: How many sentences that introduce its words are, at most.
        least: Nats a token of the chunk that a sentence must save.
    """

    counter: TokenCounter
    segmenter: Segmenter
    foreseer: ScoringModel
    max_tokens: int = 32
    most: int = 2
    last: int = 2
    introducing: int = 3
    least: float = 0.05
    separator: ClassVar[str] = "\n"

    def __post_init__(self) -> None:
        for name, least in (("max_tokens", 0), ("most", 1), ("last", 0), ("introducing", 0)):
            check_least(name, getattr(self, name), least)
        if not 0 <= self.least < math.inf:
            raise ConfigError(f"`least` must be a number of at least 0, got {self.least!r}.")

    def enrich(
        self, document: Document, chunks: Sequence[Chunk], rooms: Sequence[int]
    ) -> list[tuple[str, ...]]:
        """See `Enricher`.

        Raises:
            RequestError: A chunk is too long for the model.
        """
        if not any(min(room, self.max_tokens) > 0 for room in rooms):
            return [()] * len(chunks)
        sentences = _Sentences(document.text, self.segmenter.split(document.text))
        said = []
        for chunk, room in zip(chunks, rooms, strict=True):
            candidates = [sentences.text(at) for at in self._candidates(chunk, sentences)]
            said.append(self._helping(chunk.text, list(dict.fromkeys(candidates)), room))
        return said

    def _candidates(self, chunk: Chunk, sentences: _Sentences) -> list[int]:
        """Numbers of sentences before the chunk, rising."""
        before = sentences.before(chunk.span.start)
        last = range(max(before - self.last, 0), before)
        found = {*last, *sentences.introducing(chunk.text, before)[: self.introducing]}
        return sorted(at for at in found if len(sentences.text(at)) <= _MOST_CHARS)

    def _helping(self, text: str, left: list[str], room: int) -> tuple[str, ...]:
        """The sentences that help most beside those taken before them, the most telling first."""
        taken: tuple[str, ...] = ()
        loss = math.nan  # as long as nothing fits, the model is not asked
        while len(taken) < self.most:
            left = [each for each in left if fitted((*taken, each), self, room)[-1:] == (each,)]
            if not left:
                break
            if not taken:
                loss = mean_loss(self.foreseer, "", text)
            losses = [self._loss((*taken, each), text) for each in left]
            best = losses.index(min(losses))
            if loss - losses[best] <= self.least:
                break
            taken, loss = (*taken, left.pop(best)), losses[best]
        return taken

    def _loss(self, before: Sequence[str], text: str) -> float:
        return mean_loss(self.foreseer, "".join(f"{each}\n" for each in before), text)


class _Sentences:
    """The sentences of a document, and which of them used a word first.

    Args:
        text: The document's text.
        spans: Of its sentences, in order.
    """

    def __init__(self, text: str, spans: Sequence[Span]) -> None:
        self._text, self._spans = text, spans
        self._ends = [span.end for span in spans]
        self._first: dict[str, int] = {}
        self._uses: Counter[str] = Counter()
        for at, span in enumerate(spans):
            for word in _words(text[slice(*span)]):
                self._first.setdefault(word, at)
                self._uses[word] += 1

    def text(self, at: int) -> str:
        """A sentence."""
        return self._text[slice(*self._spans[at])]

    def before(self, place: int) -> int:
        """How many end before a place."""
        return bisect_right(self._ends, place)

    def introducing(self, text: str, before: int) -> list[int]:
        """Of the first `before` sentences those that use words of a text first, by the weight of
        these: a word weighs more the fewer sentences have it."""
        weights: Counter[int] = Counter()
        for word in sorted(_words(text)):
            at = self._first.get(word, before)
            if at < before:
                weights[at] += round(math.log2(len(self._spans) / self._uses[word]))
        found = [at for at, weight in weights.items() if weight > 0]
        return sorted(found, key=lambda at: (-weights[at], -at))  # of equals the nearest


def _words(text: str) -> set[str]:
    """Words of a text in small letters that are not in every text."""
    return {match[0].lower() for match in _WORD.finditer(text)} - STOPWORDS
