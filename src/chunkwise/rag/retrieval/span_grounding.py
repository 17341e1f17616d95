"""Evidence inside hits: a language model points at the sentences that answer.

Another retriever finds chunks. Of each the model reads the text, then the question; the sentences
that it would most likely go on with are the evidence, each with those behind it up to where the
model would most likely end.

Source: CFIC (arXiv 2402.09760), constrained sentence prefix decoding and skip decoding.
Differs: the hits of a retriever are read, each in a prompt of its own that begins with its text, so
    that all questions share one reading of it; the paper reads whole documents. The beam keeps
    scored prefixes (the authors' code: first tokens only, then greedily). Mode `pmi` is ours, for
    models that were not trained to point: how much likelier the question makes the first tokens of
    a sentence. A hit's rank counts beside the model, as scores of several prompts compare badly.
Exact when: `beam` is at least the number of sentences of a chunk; then all are scored.
Cost: one reading of a hit's text, unless it was read before for another question and is still in
    the model's prefix cache; and for each question its tokens, a few of each sentence, and
    `extension` tokens for each span, all behind each hit. The documents of what is found are loaded
    for their headings.
Helps or hurts: no help with the packaged `nano`, which was not trained to point
    (`benchmarks/grounding.py`, Chroma's corpora, n = 63). 200 tokens in place of eight hits' 1,440:
    IoU .163 against .041 [+.09, +.16], recall .61 against .96 [-.45, -.25]; but the first hits cut
    to as many tokens have IoU .179, recall .67, sentences by cosine .186, .64. The hits' ranks do
    the work: with `hit_weight` 0 recall is .21, in mode `beam` .37 (n = 30). A question takes 0.9 s
    of one core, 1.2 s with an `extension` of 256, which does not help either.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from chunkwise.errors import ConfigError, RequestError
from chunkwise.rag.retrieval.base import Cut, Retriever
from chunkwise.rag.retrieval.narrowing import merged, narrowed, placed
from chunkwise.rag.retrieval.pointing import Passage, beam_search, compare_prompts
from chunkwise.scores import Continuation, ContinuationModel, TokenScores
from chunkwise.types import Hit, Prompt, Query, Segment, Segmenter, Span, TokenCounter

__all__ = ["SpanGroundingRetriever"]

Mode = Literal["beam", "pmi"]
Against = Literal["passage", "nothing"]
_HEAD_TOKENS = 8
_LEAD = " "  # before a sentence: most tokenizers know words with the blank before them
_ASK = (
    "\n\nQuestion: {}\n\nCopy the sentences of the passage that answer the question, word for "
    "word, and nothing else."
)


@dataclass(frozen=True, slots=True)
class _Part:
    """As much of a hit as the model reads at a time.

    Attributes:
        hit: The hit, narrowed to it.
        rank: Of the hit, from 1.
        spans: Its sentences, in characters of the document.
        tails: Tokens of each sentence with what stands between it and the one before.
        passage: What the model is asked.
        fits: Whether the model's context holds it twice; if not, it is one sentence.
    """

    hit: Hit
    rank: int
    spans: tuple[Span, ...]
    tails: tuple[tuple[int, ...], ...]
    passage: Passage
    fits: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """A sentence of a part, with what the model gave it and what it has with the hit's rank."""

    part: _Part
    sentence: int
    pointed: float
    score: float

    def run(self, extension: int) -> list[tuple[int, ...]]:
        """Tokens of the sentence and of those behind it, these not more than `extension`."""
        first, behind = self.part.passage.sentences[self.sentence], []
        for tail in self.part.tails[self.sentence + 1 :]:
            extension -= len(tail)
            if extension < 0:
                break
            behind.append(tail)
        return [first, *behind]


@dataclass(frozen=True, kw_only=True)
class SpanGroundingRetriever:
    """Narrows hits to spans of whole sentences.

    Attributes:
        base: Finds the chunks.
        model: Reads them.
        segmenter: Finds their sentences.
        counter: Counts the tokens of what is found.
        cut: Says what headings and table header stand above it.
        mode: `beam`: the likeliest sentences, for a model that was trained to point; `pmi`: those
            that the question makes likelier.
        hits: Chunks that are read.
        spans: Most sentences that are found, before those that overlap are merged.
        beam: Prefixes of sentences that go on after each token, for each chunk, in mode `beam`.
        against: In mode `pmi`: likelier than behind the `passage` without the question, or than
            behind `nothing`.
        extension: Most tokens behind a sentence that may belong to it, 256 in the paper; 0: none,
            for a model that was not trained to end there.
        hit_weight: The hit of rank r has `hit_weight * ln(r)` taken from its scores; 0: the model
            alone decides.
    """

    base: Retriever
    model: ContinuationModel
    segmenter: Segmenter
    counter: TokenCounter
    cut: Cut
    mode: Mode = "pmi"
    hits: int = 8
    spans: int = 8
    beam: int = 8
    against: Against = "passage"
    extension: int = 0
    hit_weight: float = 1.0

    def __post_init__(self) -> None:
        for name, allowed in (("mode", Mode), ("against", Against)):
            if getattr(self, name) not in get_args(allowed):
                known = " or ".join(get_args(allowed))
                raise ConfigError(f"`{name}` must be {known}, got {getattr(self, name)!r}.")
        for name, least in (("hits", 1), ("spans", 1), ("beam", 1), ("extension", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"`{name}` must be at least {least}, got {getattr(self, name)}.")
        if not self.hit_weight >= 0:
            raise ConfigError(f"`hit_weight` must be at least 0, got {self.hit_weight!r}.")

    def search(self, query: Query, k: int) -> list[Hit]:
        """At most `k` hits, best first, one a content; the filter is applied before ranking.

        A hit with a sentence that does not fit the model's context with the question stays whole,
        without a score of its own: it counts as the mean of what is found.

        Raises:
            RequestError: All hits have such a sentence.
        """
        if k < 1:
            return []
        hits = self.base.search(query, self.hits)
        parts = [list(self._parts(query.text, hit, rank)) for rank, hit in enumerate(hits, 1)]
        too_long = [part for each in parts for part in each if not part.fits]
        unread = {part.rank for part in too_long}
        if hits and len(unread) == len(hits):
            raise _refusal(too_long[0])
        found = self._found([part for each in parts for part in each if part.rank not in unread])
        whole = self._whole({rank: hits[rank - 1] for rank in unread}, found)
        return placed(merged([*self._narrowed(found), *whole], self.counter)[:k], self.cut)

    def _whole(self, hits: Mapping[int, Hit], found: Sequence[_Found]) -> Iterator[Hit]:
        """Hits by rank that were not read, scored beside what was found in others."""
        mean = sum(one.pointed for one in found) / max(1, len(found))
        for rank, hit in hits.items():
            yield dataclasses.replace(hit, score=self._score(mean, rank))

    def _found(self, parts: Sequence[_Part]) -> list[_Found]:
        """The sentences that the model points at, best first, equals by position."""
        passages = [part.passage for part in parts]
        if self.mode == "beam":
            pointed = beam_search(self.model, passages, self.beam)
        else:
            pointed = compare_prompts(self.model, passages, _HEAD_TOKENS)
        found = [
            _Found(part, one.sentence, one.score, self._score(one.score, part.rank))
            for part, each in zip(parts, pointed, strict=True)
            for one in each
        ]
        return sorted(found, key=lambda one: -one.score)[: self.spans]

    def _score(self, pointed: float, rank: int) -> float:
        return pointed - self.hit_weight * math.log(rank)

    def _parts(self, question: str, hit: Hit, rank: int) -> Iterator[_Part]:
        """The hit whole, or in parts that fit the model's context twice."""
        first = hit.chunk.span.start
        found = self.segmenter.split(hit.chunk.text) or [Span(0, len(hit.chunk.text))]
        spans = [Span(first + start, first + end) for start, end in found]
        yield from self._fitting(question, hit, rank, spans)

    def _fitting(
        self, question: str, hit: Hit, rank: int, spans: Sequence[Span]
    ) -> Iterator[_Part]:
        part = self._part(question, hit, rank, spans)
        if part.fits or len(spans) == 1:
            yield part
        else:
            middle = len(spans) // 2
            yield from self._fitting(question, hit, rank, spans[:middle])
            yield from self._fitting(question, hit, rank, spans[middle:])

    def _part(self, question: str, hit: Hit, rank: int, spans: Sequence[Span]) -> _Part:
        whole = Span(spans[0].start, spans[-1].end)
        part = narrowed(hit, whole, self.counter)
        text = part.chunk.text
        edges = [spans[0].start, *(span.end for span in spans)]
        sentences = (text[a - whole.start : b - whole.start] for a, b in spans)
        between = (text[a - whole.start : b - whole.start] for a, b in itertools.pairwise(edges))
        passage = Passage(
            _prompt(part, question),
            _prompt(part, "") if self.against == "passage" else "",
            tuple(self.model.encode(_LEAD + sentence) for sentence in sentences),
        )
        tails = tuple(map(self.model.encode, between))
        size = sum(map(len, tails)) + len(passage.sentences[0])
        fits = size <= self.model.room(passage.prompt)
        return _Part(part, rank, tuple(spans), tails, passage, fits)

    def _narrowed(self, found: Sequence[_Found]) -> Iterator[Hit]:
        """A hit for each sentence that was pointed at, up to the most likely end."""
        runs = [one.run(self.extension) for one in found]
        asked = [
            Continuation(one.part.passage.prompt, tuple(itertools.chain(*run)))
            for one, run in zip(found, runs, strict=True)
            if len(run) > 1
        ]
        scored = iter(self.model.scores(asked))
        for one, run in zip(found, runs, strict=True):
            more = _likeliest_end(run, next(scored)) if len(run) > 1 else 0
            spans = one.part.spans[one.sentence : one.sentence + more + 1]
            hit = narrowed(one.part.hit, Span(spans[0].start, spans[-1].end), self.counter)
            scores = {**hit.scores, "span": one.pointed}
            yield dataclasses.replace(hit, score=one.score, scores=scores)


def _likeliest_end(run: Sequence[Sequence[int]], scores: TokenScores) -> int:
    """At the end of which sentence of a run the model would end, the first one of equals."""
    edges = np.cumsum([len(tokens) for tokens in run])
    return int(np.argmax(scores.ends[edges - 1]))


def _refusal(part: _Part) -> RequestError:
    span = part.hit.chunk.span
    return RequestError(
        f"{part.hit.document}, characters {span.start} to {span.end}: this sentence and the "
        "question are too long for the language model's context. Ask shorter, cut smaller chunks "
        "(`size`), or set `model` to one with a longer context."
    )


def _prompt(hit: Hit, question: str) -> Prompt:
    """The passage first, so that its keys and values serve all questions; what to do last, so that
    what each question adds is long enough for a prefix cache to keep."""
    return Prompt(
        (
            Segment("user", "Passage:\n"),
            Segment("user", hit.chunk.text, content_id=hit.chunk.id),
            Segment("user", _ASK.format(question)),
        )
    )
