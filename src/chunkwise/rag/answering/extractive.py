"""Verbatim sentences and table rows as the answer: nothing is written, everything is a quotation.

Source: none; a linear ranker over term overlap, cosine and the kind of thing asked for, as in
    classic answer-sentence selection.
Differs: the confidence is the probability, fitted on the training halves, that the sentences
    shown hold the answer; below a threshold the answer is that there is none.
Exact when: always verbatim: the text is slices of the documents, joined by blank lines.
Cost: some 20 ms for eight passages of 130 words; with an embedder, also one batch of all their
    sentences.
Helps or hurts: on 1,000 answerable questions of the test halves of five sets
    (`benchmarks/answers.py`), a gold answer stands in what is shown for 66 % without an embedder
    (BM25 hits) and 73 % with MiniLM (fused hits); in the two best BM25 sentences of the same
    hits, for 61 % and 63 %. AUC of the confidence, answerable against not: 0.79 and 0.84. It
    parts questions about other matters well (0.90, 0.97), and questions that a passage almost
    answers badly (0.57, 0.59: SQuAD 2.0, CLAPnq): words and cosines do not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from chunkwise.errors import ConfigError
from chunkwise.rag.answering.base import NOT_FOUND_TEXT, citation
from chunkwise.rag.answering.evidence import Evidence, weigh
from chunkwise.rag.answering.units import Unit, units_of
from chunkwise.types import Answer, Citation, Embedder, Hit, Query, Segmenter, Span

__all__ = ["ExtractiveAnswerer"]

_REFERS_BACK = re.compile(
    r"[\W_]*(?:he|she|it|they|this|these|those|that|his|her|its|their|such|both|er|sie|es|dies\w*|"
    r"il|elle|ils|elles|cela|ce|ces|él|ella|ellos|esto|este|esta|lui|lei|questo|questa|ele|ela|"
    r"isso)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ExtractiveAnswerer:
    """Answers with one to three verbatim sentences or rows, or says that there is no answer.

    `usage` counts `passages` and `sentences`. The confidence is comparable within one kind of
    evidence, with an embedder or without.

    Attributes:
        segmenter: Finds the sentences.
        embedder: Adds meaning to words when it is a trained one; a weak one is left out.
        max_sentences: Most sentences or rows, those for context included, at least 1.
        threshold: Confidence below which the answer is "not found", in [0, 1]. None: the
            fitted one.
        max_gap: A further sentence is added when its score is at most this much below the best;
            1 is odds of e.
    """

    segmenter: Segmenter
    embedder: Embedder | None = None
    max_sentences: int = 3
    threshold: float | None = None
    max_gap: float = 1.0

    def __post_init__(self) -> None:
        if self.max_sentences < 1:
            raise ConfigError(f"`max_sentences` must be at least 1, got {self.max_sentences!r}.")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ConfigError(f"`threshold` must be in [0, 1] or None, got {self.threshold!r}.")
        if self.max_gap < 0:
            raise ConfigError(f"`max_gap` must be 0 or more, got {self.max_gap!r}.")

    def stream(self, query: Query, hits: Sequence[Hit]) -> Iterator[str | Answer]:
        """See `Answerer.stream`."""
        answer = self._answer(query, hits)
        yield answer.text
        yield answer

    def _answer(self, query: Query, hits: Sequence[Hit]) -> Answer:
        units = [unit for unit in units_of(hits, self.segmenter) if not unit.is_heading]
        if not units:
            return _not_found(len(hits), 0.0)
        embedder = None if self.embedder is None or self.embedder.is_weak else self.embedder
        evidence = weigh(query.text, hits, units, embedder=embedder)
        least = evidence.threshold if self.threshold is None else self.threshold
        if evidence.confidence < least:
            return _not_found(len(hits), evidence.confidence)
        return _quoted(hits, units, self._chosen(hits, units, evidence), evidence.confidence)

    def _chosen(self, hits: Sequence[Hit], units: Sequence[Unit], evidence: Evidence) -> list[int]:
        """Indices of the units to show, best first, each followed by what it refers back to."""
        order = np.argsort(-evidence.scores, kind="stable").tolist()
        least = evidence.scores[order[0]] - self.max_gap
        chosen: list[int] = []
        for i in order:
            if len(chosen) >= self.max_sentences or evidence.scores[i] < least:
                break
            if i in chosen or any(_is_repeated(hits, units[i], units[j]) for j in chosen):
                continue
            chosen.append(i)
            if len(chosen) < self.max_sentences and _refers_back(hits, units, i):
                chosen.extend({i - 1}.difference(chosen))
        return chosen


def _refers_back(hits: Sequence[Hit], units: Sequence[Unit], i: int) -> bool:
    """Whether a sentence opens with a pronoun and the one before it can say for what."""
    unit = units[i]
    if i == 0 or unit.is_row or units[i - 1].is_row or units[i - 1].hit != unit.hit:
        return False
    return bool(_REFERS_BACK.match(hits[unit.hit].chunk.text[unit.start : unit.end]))


def _is_repeated(hits: Sequence[Hit], unit: Unit, other: Unit) -> bool:
    """Whether two units are the same words, or overlap in their document."""
    a, b = hits[unit.hit], hits[other.hit]
    if a.chunk.text[unit.start : unit.end] == b.chunk.text[other.start : other.end]:
        return True
    shift = a.chunk.span.start - b.chunk.span.start
    is_apart = unit.end + shift <= other.start or other.end <= unit.start + shift
    return (a.document, a.version) == (b.document, b.version) and not is_apart


def _quoted(
    hits: Sequence[Hit], units: Sequence[Unit], chosen: Sequence[int], confidence: float
) -> Answer:
    """The answer from chosen units: by hit in order of choice, in text order within a hit."""
    parts: list[str] = []
    citations: list[Citation] = []
    for place in dict.fromkeys(units[i].hit for i in chosen):
        hit = hits[place]
        for run in _runs(sorted(i for i in chosen if units[i].hit == place), units):
            header, spans = _spans(run, hit)
            cited = [citation(hit, span.start, span.end) for span in spans]
            parts.append("\n".join([*([header] if header else []), *(c.text for c in cited)]))
            citations.extend(cited)
    return Answer(
        "\n\n".join(parts),
        tuple(citations),
        confidence=confidence,
        usage={"passages": len(hits), "sentences": len(chosen)},
        fidelity={"kind": "verbatim"},
    )


def _runs(indices: Sequence[int], units: Sequence[Unit]) -> list[list[Unit]]:
    """Neighbouring units of one kind, and rows of one table even when apart."""
    runs: list[list[Unit]] = []
    previous = -2
    for i in indices:
        last = runs[-1][-1] if runs else None
        is_next = i == previous + 1 or units[i].is_row
        if last and is_next and (last.is_row, last.header) == (units[i].is_row, units[i].header):
            runs[-1].append(units[i])
        else:
            runs.append([units[i]])
        previous = i
    return runs


def _spans(run: Sequence[Unit], hit: Hit) -> tuple[str, list[Span]]:
    """What a run cites: one span for sentences; header and rows for a table.

    A table that began in an earlier chunk has its header as text of that chunk, with no place
    in this one: it is shown and not cited.
    """
    if not run[0].is_row:
        return "", [Span(run[0].start, run[-1].end)]
    rows = [Span(unit.start, unit.end) for unit in run]
    if run[0].header is None:
        return hit.chunk.header.strip("\r\n"), rows
    return "", [run[0].header, *rows]


def _not_found(passages: int, confidence: float) -> Answer:
    return Answer(
        NOT_FOUND_TEXT,
        found=False,
        confidence=confidence,
        usage={"passages": passages, "sentences": 0},
        fidelity={"kind": "verbatim"},
    )
