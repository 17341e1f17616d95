"""How good answers to questions are: exact match, token F1, and whether "not found" is right.

Source: the evaluation of SQuAD 2.0 (arXiv 1806.03822): case, ASCII punctuation, English articles
    and blanks do not count, the best gold answer does; without a gold answer only no answer is
    right. Area under the ROC curve by ranks (Mann and Whitney), ties counted half.
Differs: the threshold of the confidence is not tuned on the questions that are measured. Text
    without spaces between words (Chinese, Japanese, Thai) is one token, as in SQuAD.
Exact when: equal to the published script, which gives per cent.
Cost: O(length) per gold answer.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chunkwise.evaluation.bootstrap import (
    Floats,
    Interval,
    Statistic,
    bootstrap,
    clusters_by_document,
    difference,
    ratio,
    weighted_mean,
)
from chunkwise.evaluation.questions import Question

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """What was answered to one question, and how good that is.

    Attributes:
        question: The question with its gold answers.
        prediction: What was answered; empty for "not found".
        confidence: That the answer is there, in [0, 1]; None: unknown.
        exact: 1 for an exact match, else 0.
        f1: Token F1, in [0, 1].
        error: Why there is no answer, where asking failed; such a question scores 0.
    """

    question: Question
    prediction: str
    confidence: float | None
    exact: float
    f1: float
    error: str = ""

    @property
    def is_answered(self) -> bool:
        """Whether anything was answered."""
        return bool(self.prediction)


@dataclass(frozen=True, slots=True)
class AnswerSummary:
    """What one system scored on all questions.

    Attributes:
        num_questions: How many were asked.
        num_answerable: How many have a gold answer.
        measures: `exact`, `f1`, `answered` (share of questions with an answer) and `auc`: how well
            the confidence parts answerable from unanswerable questions, 0.5 being chance. NaN
            where there are none of one kind; questions without a confidence are left out of it.
    """

    num_questions: int
    num_answerable: int
    measures: Mapping[str, Interval]


def scored(
    question: Question, prediction: str, confidence: float | None, *, error: str = ""
) -> ScoredAnswer:
    """The prediction with its scores; all are 0 where there was an error."""
    exact = 0.0 if error else exact_match(prediction, question.answers)
    f1 = 0.0 if error else token_f1(prediction, question.answers)
    return ScoredAnswer(question, prediction, confidence, exact, f1, error)


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 when the prediction is one of the gold answers, else 0; see `normalised`.

    Args:
        prediction: What was answered; empty for "not found".
        answers: The gold answers; empty: the question has none.
    """
    return float(normalised(prediction) in _gold(answers))


def token_f1(prediction: str, answers: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over words, for the best gold answer.

    Args:
        prediction: What was answered; empty for "not found", which scores 1 or 0.
        answers: The gold answers; empty: the question has none.
    """
    said = normalised(prediction).split()
    return max(_f1(said, answer.split()) for answer in _gold(answers))


def normalised(text: str) -> str:
    """The text in lower case without ASCII punctuation, English articles and extra blanks."""
    plain = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def abstention_auc(
    confidence: Sequence[float | None], is_answerable: Sequence[bool] | NDArray[np.bool_]
) -> float:
    """Chance that an answerable question has a higher confidence than an unanswerable one.

    Args:
        confidence: Of each question; equal ones count half, None is left out.
        is_answerable: Whether each question has an answer.

    Returns:
        A value in [0, 1], or NaN where either kind is missing.
    """
    one_draw = np.ones((1, len(confidence)))
    return float(_auc(confidence, is_answerable)(one_draw)[0])


def summarise(
    rows: Sequence[ScoredAnswer], *, resamples: int = 10_000, seed: int = 0
) -> AnswerSummary:
    """All measures with their 95 % intervals; questions about one document are drawn together."""
    found = bootstrap(
        _measures(rows), len(rows), clusters=_clusters(rows), resamples=resamples, seed=seed
    )
    return AnswerSummary(len(rows), sum(row.question.is_answerable for row in rows), found)


def compare_answers(
    rows: Sequence[ScoredAnswer],
    baseline: Sequence[ScoredAnswer],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Interval]:
    """`rows - baseline` of every measure with its 95 % interval, both on the same draws.

    Args:
        rows: What one system answered.
        baseline: What another answered to the same questions, in the same order.
        resamples: As in `bootstrap`.
        seed: Same seed, same intervals.
    """
    pairs = zip(rows, baseline, strict=True)
    assert all(one.question.id == other.question.id for one, other in pairs), "not paired"
    statistic = difference(_measures(rows), _measures(baseline))
    return bootstrap(statistic, len(rows), clusters=_clusters(rows), resamples=resamples, seed=seed)


def _gold(answers: Sequence[str]) -> list[str]:
    """Normalised gold answers. Those of which nothing is left do not count, as in SQuAD."""
    return [gold for answer in answers if (gold := normalised(answer))] or [""]


def _f1(said: Sequence[str], gold: Sequence[str]) -> float:
    if not said or not gold:
        return float(said == gold)
    shared = (Counter(said) & Counter(gold)).total()
    return 2 * shared / (len(said) + len(gold))


def _measures(rows: Sequence[ScoredAnswer]) -> Statistic:
    columns = {
        "exact": np.array([row.exact for row in rows]),
        "f1": np.array([row.f1 for row in rows]),
        "answered": np.array([float(row.is_answered) for row in rows]),
    }
    auc = _auc([r.confidence for r in rows], [r.question.is_answerable for r in rows])

    def measures(drawn: Floats) -> dict[str, Floats]:
        means = {name: weighted_mean(drawn, values) for name, values in columns.items()}
        return {**means, "auc": auc(drawn)}

    return measures


def _auc(
    confidence: Sequence[float | None], is_answerable: Sequence[bool] | NDArray[np.bool_]
) -> Callable[[Floats], Floats]:
    """The area in each draw: `(num_draws, num_rows)` to `(num_draws,)`."""
    values = np.array([math.nan if c is None else c for c in confidence], dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    starts = np.unique(values[order], return_index=True)[1]  # first of each group of equals
    good = np.asarray(is_answerable, dtype=np.float64)[order]

    def area(drawn: Floats) -> Floats:
        if not len(order):
            return np.full(len(drawn), np.nan)
        high = np.add.reduceat(drawn[:, order] * good, starts, axis=1)  # (num_draws, num_groups)
        low = np.add.reduceat(drawn[:, order] * (1 - good), starts, axis=1)
        below = np.cumsum(low, axis=1) - low / 2
        return ratio((high * below).sum(axis=1), high.sum(axis=1) * low.sum(axis=1))

    return area


def _clusters(rows: Sequence[ScoredAnswer]) -> list[tuple[str, int]]:
    return clusters_by_document([row.question.document for row in rows])
