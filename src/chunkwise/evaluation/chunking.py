"""How well a corpus is cut: questions with the characters that answer them, put to its search."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chunkwise.errors import DocumentError
from chunkwise.evaluation.bootstrap import (
    Floats,
    Interval,
    bootstrap,
    clusters_by_document,
    weighted_mean,
)
from chunkwise.evaluation.headings import heading_counts, summarise_headings
from chunkwise.evaluation.rows import Line, read_lines
from chunkwise.evaluation.spans import Chunking, Place, Retrieved, SpanCase, score_case
from chunkwise.types import Chunk, Document, Hit, Span

if TYPE_CHECKING:
    from chunkwise.pipeline.corpus import Corpus

BUDGETS = (400, 800, 1600)
"""Tokens at which recall is always shown: more chunks or larger ones are no gain there."""

_DEPTH = 32  # chunks that are looked at first for the budgets


@dataclass(frozen=True, slots=True)
class CaseLine:
    """A question of a file: its id, and what answers it."""

    id: str
    case: SpanCase


def read_cases(
    path: str | os.PathLike[str], document_of: Callable[[str], Document]
) -> list[CaseLine]:
    """Questions of a file with one JSON object a line, and the spans of documents that answer them.

    Keys: `question`; `references`, a list of objects with `document` and either `start` and `end`
    in characters of its text, or `text`, of which the first occurrence counts; with all three the
    text must stand there; and if wanted `id`.

    Args:
        path: The file, gzipped or not.
        document_of: A document by name.

    Raises:
        DocumentError: The file cannot be read, a line cannot be used, or a span is not in its
            document; the message names the line.
    """
    known: dict[str, Document] = {}

    def document(line: Line, name: str) -> Document:
        if name not in known:
            try:
                known[name] = document_of(name)
            except DocumentError as exc:
                raise line.fails(f"`document` {name!r}: {exc.reason}.") from exc
        return known[name]

    found: dict[str, CaseLine] = {}
    for line in read_lines(path):
        places = tuple(_place(line, given, document) for given in _references(line))
        one = CaseLine(line.id(), SpanCase(line.text("question"), places))
        if one.id in found:
            raise line.fails(f"`id` {one.id!r} is that of an earlier line.")
        found[one.id] = one
    return list(found.values())


def read_chunks(corpus: Corpus) -> dict[str, list[Chunk]]:
    """The chunks of each document, in order. A corpus that is not there is an error."""
    return {info.name: corpus.store.chunks(info.name) for info in corpus.documents()}


def evaluate_chunking(
    corpus: Corpus,
    cases: Sequence[SpanCase],
    *,
    chunks: Mapping[str, Sequence[Chunk]] | None = None,
    k: int = 5,
    budgets: Sequence[int] = BUDGETS,
) -> Iterator[dict[str, float]]:
    """A row of scores for each question, as it is asked; see `spans.score_case`.

    Args:
        corpus: Searched as its settings say.
        cases: The questions.
        chunks: Those of each document, where they were read before; see `read_chunks`.
        k: Chunks that are retrieved for all measures without a budget.
        budgets: Tokens of `recall_at_<budget>`.
    """
    read = read_chunks(corpus) if chunks is None else chunks
    every = [Place(name, chunk.span) for name, some in read.items() for chunk in some]
    chunking, most = Chunking(every), max(budgets, default=0)
    for case in cases:
        best = [place_of(hit) for hit in corpus.search(case.question, k)]
        ranked = _ranked(corpus, case.question, most) if budgets else []
        yield score_case(case.references, best, ranked, chunking, budgets=budgets)


def summarise_chunking(
    rows: Sequence[Mapping[str, float]],
    cases: Sequence[SpanCase],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Means of all measures with 95 % intervals; whole documents are drawn where there are many."""
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def means(drawn: Floats) -> dict[str, Floats]:
        return {name: weighted_mean(drawn, values) for name, values in columns.items()}

    return bootstrap(means, len(rows), clusters=clusters_of(cases), resamples=resamples, seed=seed)


def evaluate_headings(
    corpus: Corpus, chunks: Mapping[str, Sequence[Chunk]]
) -> tuple[dict[str, Interval], int]:
    """Pk and WindowDiff of borders of chunks against headings, and how many documents have two
    headings or more; others are left out. See `headings`."""
    counts = []
    for name, some in chunks.items():
        spans = [chunk.span for chunk in some]
        found = heading_counts(corpus.document(name), spans, corpus.parts.counter)
        if found is not None:
            counts.append(found)
    return summarise_headings(counts), len(counts)


def compare_chunking(
    rows: Sequence[Mapping[str, float]],
    earlier: Sequence[Mapping[str, float]],
    cases: Sequence[SpanCase],
) -> dict[str, Interval]:
    """What each measure is more than in an earlier run over the same questions."""
    names = [name for name in rows[0] if all(name in row for row in earlier)]
    less = [
        {name: row[name] - old[name] for name in names}
        for row, old in zip(rows, earlier, strict=True)
    ]
    return summarise_chunking(less, cases)


def read_earlier(path: str | os.PathLike[str], cases: Sequence[CaseLine]) -> list[dict[str, float]]:
    """Rows of an earlier run, in the order of these questions.

    Raises:
        DocumentError: The file cannot be read, or has no row for a question or one of other words
            or with other characters that answer it.
    """
    lines = {line.id(): line for line in read_lines(path)}
    found = []
    for one in cases:
        line = lines.get(one.id)
        if line is None or line.text("question") != one.case.question:
            raise DocumentError(
                os.fspath(path),
                f"has no row for the question {one.id!r} with these words; compare runs of one "
                "file.",
            )
        if line.values.get("references") != _written(one.case):
            raise line.fails(
                f"was not scored by the `references` that the question {one.id!r} has now; "
                "compare runs of one file over the same documents."
            )
        names = [key for key in line.values if key not in ("id", "question", "references")]
        found.append({name: line.number_at(name) for name in names})
    return found


def case_row(one: CaseLine, scores: Mapping[str, float]) -> dict[str, Any]:
    """A row as a file holds it."""
    about = {"id": one.id, "question": one.case.question, "references": _written(one.case)}
    return {**about, **scores}


def clusters_of(cases: Sequence[SpanCase]) -> list[tuple[str, int]]:
    """The document of each question, to draw whole ones; see `clusters_by_document`."""
    return clusters_by_document([case.references[0].document for case in cases])


def _written(case: SpanCase) -> list[dict[str, Any]]:
    """The characters that answer a question, as a row holds them."""
    return [
        {"document": place.document, "start": place.span.start, "end": place.span.end}
        for place in case.references
    ]


def _ranked(corpus: Corpus, question: str, most: int) -> list[Retrieved]:
    """The best chunks, best first, enough to fill so many tokens."""
    return deepened(corpus, question, corpus.search(question, _DEPTH), _DEPTH, most)


def deepened(
    corpus: Corpus, question: str, hits: Sequence[Hit], depth: int, most: int
) -> list[Retrieved]:
    """Hits, best first, and more of them where they do not fill the tokens.

    Args:
        corpus: Is searched for more.
        question: What was asked.
        hits: What a search for `depth` hits gave.
        depth: How many were searched for.
        most: Tokens.
    """
    while len(hits) >= depth and sum(hit.chunk.tokens for hit in hits) <= most:
        depth *= 4
        hits = corpus.search(question, depth)
    return [Retrieved(place_of(hit), hit.chunk.tokens) for hit in hits]


def place_of(hit: Hit) -> Place:
    """Where a hit stands."""
    return Place(hit.document, hit.chunk.span)


def _references(line: Line) -> list[Mapping[str, Any]]:
    given = line.values.get("references")
    is_list = isinstance(given, list) and given and all(isinstance(one, dict) for one in given)
    if not is_list:
        raise line.fails(
            "`references` must be a list of objects, each with `document` and `start` and `end`, "
            "or `text`; a question without an answer has no place here."
        )
    assert isinstance(given, list), "checked above"
    return given


def _place(
    line: Line, given: Mapping[str, Any], document: Callable[[Line, str], Document]
) -> Place:
    reference = Line(line.file, line.number, given)
    found = document(line, reference.text("document"))
    if "start" not in given and "end" not in given:
        return Place(found.name, _where(line, found, reference.text("text")))
    start, end = int(reference.number_at("start")), int(reference.number_at("end"))
    if not 0 <= start < end <= len(found.text):
        raise line.fails(
            f"the span {start} to {end} is not in {found.name!r}, which has "
            f"{len(found.text)} characters."
        )
    wanted = reference.text("text", "")
    if wanted and found.text[start:end] != wanted:
        there = found.text[start : min(end, start + 40)]
        raise line.fails(f"{found.name!r} has {there!r} at {start}, not the `text` of this line.")
    return Place(found.name, Span(start, end))


def _where(line: Line, document: Document, text: str) -> Span:
    start = document.text.find(text) if text.strip() else -1
    if start < 0:
        raise line.fails(f"{document.name!r} does not hold the text {text[:60]!r}.")
    return Span(start, start + len(text))
