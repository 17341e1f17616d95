"""How good answers and their passages are, by claims: the measures of RAGAS, and four more.

Source: RAGAS (arXiv 2309.15217) and its library, as used by arXiv 2505.08445: faithfulness, answer
    relevancy, answer correctness, context precision, context recall, answer similarity; citation
    precision and recall as in ALCE (arXiv 2305.14627).
Differs: a claim is supported by one passage or not at all; a passage is useful when it supports a
    claim of the reference. Citations are held against the claims of the whole answer, not of the
    sentence before the label. The reference is the first gold answer.
Exact when: the formulas are those of the library for the same verdicts.
Cost: a verdict for each claim and passage; see the judge.
Helps or hurts: context precision says how the useful passages are ranked and nothing else: it is
    blind to what is missing (context recall) and to noise behind them (noise share).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chunkwise.evaluation.bootstrap import (
    Floats,
    Interval,
    Statistic,
    bootstrap,
    ratio,
)
from chunkwise.evaluation.judging import Claim, Judge
from chunkwise.evaluation.questions import Question
from chunkwise.types import Chunk, Citation, Embedder, Hit, Span, content_id

MEASURES = (
    "faithfulness",
    "answer_relevancy",
    "answer_correctness",
    "answer_similarity",
    "context_precision",
    "context_recall",
    "noise_share",
    "abstention_accuracy",
    "citation_precision",
    "citation_recall",
)
_NAN = math.nan
_ASKED_BACK = 3


@dataclass(frozen=True, slots=True)
class RagAnswer:
    """An answer with what it was made from.

    Attributes:
        question: The question with its gold answers.
        text: What was answered, without labels of citations; empty for "not found".
        passages: What it was answered from, best first.
        citations: What it cites.
    """

    question: Question
    text: str
    passages: tuple[Hit, ...]
    citations: tuple[Citation, ...] = ()


def rag_scores(given: RagAnswer, judge: Judge, embedder: Embedder) -> dict[str, float]:
    """All `MEASURES` of one answer; NaN for what is not defined.

    Without a gold answer only faithfulness, relevancy and citations of what was answered are
    defined, and abstention. Where an answer is known and none was given, what measures the answer
    against question or reference is 0.

    Args:
        given: The answer.
        judge: Gives the verdicts.
        embedder: Gives the similarities; a weak one compares words.

    Raises:
        RequestError: The judge cannot be asked.
    """
    question = given.question
    reference = question.answers[0] if question.answers else ""
    said = judge.claims(given.text, question.text) if given.text else []
    wanted = judge.claims(reference, question.text) if reference else []
    similarity = _similarity(given.text, reference, embedder)
    return {
        "faithfulness": _share([_is_supported(judge, c, given.passages) for c in said]),
        "answer_relevancy": _relevancy(given, judge, embedder),
        "answer_correctness": _correctness(given, said, wanted, similarity, judge),
        "answer_similarity": similarity,
        **_context(given.passages, wanted, judge),
        "abstention_accuracy": float(bool(given.text) == question.is_answerable),
        **_citations(given, said, judge),
    }


def context_precision(useful: Sequence[bool]) -> float:
    """Mean precision at the ranks of useful passages; 0 where none is useful.

    Args:
        useful: Whether each passage is, best ranked first.
    """
    hits = np.cumsum(useful) if useful else np.zeros(0)
    at_useful = [hits[k] / (k + 1) for k, is_useful in enumerate(useful) if is_useful]
    return float(np.mean(at_useful)) if at_useful else 0.0


def correctness(
    *,
    shared: int,
    only_answer: int,
    only_reference: int,
    similarity: float,
    weight: float = 0.75,
    beta: float = 1.0,
) -> float:
    """`weight` times the F-measure of claims and the rest times the similarity.

    Args:
        shared: Claims of the answer that the reference supports (true positives).
        only_answer: Those that it does not (false positives).
        only_reference: Claims of the reference that the answer does not support.
        similarity: Of answer and reference.
        weight: In [0, 1].
        beta: How many times recall counts as much as precision.
    """
    square = beta**2
    total = (1 + square) * shared + square * only_reference + only_answer
    f_measure = (1 + square) * shared / total if total else 0.0
    return weight * f_measure + (1 - weight) * similarity


def relevancy(cosines: Sequence[float], evasive: Sequence[bool]) -> float:
    """Mean cosine of the question with those made back from the answer; 0 if all say that the
    answer evades."""
    return 0.0 if all(evasive) else float(np.mean(cosines))


def summarise_rag(
    rows: Sequence[Mapping[str, float]],
    clusters: Sequence[Hashable] = (),
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Means of all measures over the rows where they are defined, with 95 % intervals."""
    return bootstrap(_means(rows), len(rows), clusters=clusters, resamples=resamples, seed=seed)


def compare_rag(
    rows: Sequence[Mapping[str, float]],
    baseline: Sequence[Mapping[str, float]],
    clusters: Sequence[Hashable] = (),
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Means of the paired differences `rows - baseline`, over the rows where both are defined.

    Args:
        rows: Scores of one system.
        baseline: Those of another for the same questions, in the same order.
        clusters: As in `bootstrap`.
        resamples: As in `bootstrap`.
        seed: Same seed, same intervals.
    """
    less = [
        {name: row[name] - other[name] for name in MEASURES}
        for row, other in zip(rows, baseline, strict=True)
    ]
    return summarise_rag(less, clusters, resamples=resamples, seed=seed)


def both_defined(
    rows: Sequence[Mapping[str, float]], baseline: Sequence[Mapping[str, float]]
) -> dict[str, int]:
    """How many rows each measure is compared over."""
    pairs = list(zip(rows, baseline, strict=True))
    return {
        name: sum(not math.isnan(row[name] - other[name]) for row, other in pairs)
        for name in MEASURES
    }


def _means(rows: Sequence[Mapping[str, float]]) -> Statistic:
    columns = {name: np.array([row[name] for row in rows], np.float64) for name in MEASURES}

    def means(drawn: Floats) -> dict[str, Floats]:
        found = {}
        for name, values in columns.items():
            defined = ~np.isnan(values)
            found[name] = ratio(drawn @ np.where(defined, values, 0.0), drawn @ defined)
        return found

    return means


def _is_supported(judge: Judge, claim: Claim, passages: Sequence[Hit]) -> bool:
    return any(judge.supports(claim, passage) for passage in passages)


def _share(verdicts: Sequence[bool]) -> float:
    return sum(verdicts) / len(verdicts) if verdicts else _NAN


def _similarity(text: str, reference: str, embedder: Embedder) -> float:
    if not reference:
        return _NAN
    if not text:
        return 0.0
    one, other = embedder.embed([text, reference])
    return float(one @ other)


def _relevancy(given: RagAnswer, judge: Judge, embedder: Embedder) -> float:
    if not given.text:
        return 0.0 if given.question.is_answerable else _NAN
    asked = judge.asked(given.text, _ASKED_BACK)
    if not asked:
        return _NAN
    vectors = embedder.embed([given.question.text, *(one.text for one in asked)], "query")
    cosines = (vectors[1:] @ vectors[0]).tolist()
    return relevancy(cosines, [one.is_evasive for one in asked])


def _correctness(
    given: RagAnswer,
    said: Sequence[Claim],
    wanted: Sequence[Claim],
    similarity: float,
    judge: Judge,
) -> float:
    if not given.question.is_answerable:
        return _NAN
    answer, reference = _passage(given.text), _passage(given.question.answers[0])
    shared = sum(judge.supports(claim, reference) for claim in said)
    missing = sum(not said or not judge.supports(claim, answer) for claim in wanted)
    return correctness(
        shared=shared,
        only_answer=len(said) - shared,
        only_reference=missing,
        similarity=similarity,
    )


def _context(passages: Sequence[Hit], wanted: Sequence[Claim], judge: Judge) -> dict[str, float]:
    """What the passages hold of the reference; nothing is defined without one."""
    if not wanted:
        return dict.fromkeys(("context_precision", "context_recall", "noise_share"), _NAN)
    verdicts = [[judge.supports(claim, passage) for passage in passages] for claim in wanted]
    useful = [any(column) for column in zip(*verdicts, strict=True)]
    tokens = [passage.chunk.tokens for passage in passages]
    spent = sum(n for n, is_useful in zip(tokens, useful, strict=True) if is_useful)
    return {
        "context_precision": context_precision(useful),
        "context_recall": _share([any(row) for row in verdicts]),
        "noise_share": 1 - spent / sum(tokens) if sum(tokens) else _NAN,
    }


def _citations(given: RagAnswer, said: Sequence[Claim], judge: Judge) -> dict[str, float]:
    """Share of the citations that support a claim, and of the claims that a citation supports."""
    cited = [_passage(one.text, one.document) for one in given.citations]
    verdicts = [[judge.supports(claim, passage) for claim in said] for passage in cited]
    claims = zip(*verdicts, strict=True) if cited else [()] * len(said)
    return {
        "citation_precision": _share([any(row) for row in verdicts]) if said else _NAN,
        "citation_recall": _share([any(column) for column in claims]),
    }


def _passage(text: str, document: str = "") -> Hit:
    """A text by itself, as judges take it."""
    return Hit(Chunk(content_id(text), text, Span(0, len(text)), 0), 0.0, document)
