"""Answers: worked values of SQuAD's measures, an independent implementation, abstention."""

from __future__ import annotations

import itertools
import math
import re
import string
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.evaluation import answers as measured
from chunkwise.evaluation.answers import (
    ScoredAnswer,
    abstention_auc,
    compare_answers,
    exact_match,
    normalised,
    scored,
    summarise,
    token_f1,
)
from chunkwise.evaluation.questions import Question

WORDS = st.text(alphabet="ab .,'-THEthe\n\té中", max_size=20)
ANSWERS = st.lists(WORDS, max_size=3)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The  Battery-Pack, (2025)", "batterypack 2025"),
        ("an apple\nA day", "apple day"),
        ("Athens' theatre", "athens theatre"),  # an article is a word of its own
        ("“Ça” 中文。", "“ça” 中文。"),  # only ASCII punctuation, as in SQuAD
        ("The.", ""),
    ],
)
def test_normalises_as_squad_does(text: str, plain: str) -> None:
    assert normalised(text) == plain


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("the Eiffel Tower", ["Eiffel tower!"], 1, 1),
        # 2 of 4 words said, 2 of 3 wanted: 2 * 2 / (4 + 3)
        ("in the old harbour town", ["old harbour wall"], 0, 4 / 7),
        # twice said, once wanted: 1 of 2 and 1 of 1
        ("no no", ["no"], 0, 2 / 3),
        ("nine", ["9.4 million", "nine"], 1, 1),  # the best gold answer
        ("nine ships", ["ten", "nine boats"], 0, 1 / 2),
        ("", [], 1, 1),  # rightly not found
        ("nine", [], 0, 0),  # answered what has no answer
        ("", ["nine"], 0, 0),  # not found what there is
        ("the", [], 1, 1),  # nothing is left of it, as in SQuAD
        ("nine", ["the", "nine"], 1, 1),
        ("%", ["%"], 1, 1),
    ],
)
def test_worked_values(prediction: str, answers: list[str], exact: float, f1: float) -> None:
    assert exact_match(prediction, answers) == exact
    assert token_f1(prediction, answers) == pytest.approx(f1)


def published(prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1, step by step as the script of SQuAD 2.0 describes them."""

    def plain(text: str) -> str:
        kept = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())

    def f1(gold: str, said: str) -> float:
        one, other = plain(gold).split(), plain(said).split()
        if not one or not other:
            return float(one == other)
        shared = sum(min(one.count(w), other.count(w)) for w in set(one))
        if not shared:
            return 0.0
        precision, recall = shared / len(other), shared / len(one)
        return 2 * precision * recall / (precision + recall)

    gold = [answer for answer in answers if plain(answer)] or [""]
    exact = max(float(plain(answer) == plain(prediction)) for answer in gold)
    return exact, max(f1(answer, prediction) for answer in gold)


@given(WORDS, ANSWERS)
def test_equals_the_published_definition(prediction: str, answers: list[str]) -> None:
    exact, f1 = published(prediction, answers)
    assert exact_match(prediction, answers) == exact
    assert token_f1(prediction, answers) == pytest.approx(f1)
    assert exact <= token_f1(prediction, answers) <= 1


@given(st.lists(WORDS, min_size=1, max_size=3))
def test_a_gold_answer_scores_1_and_an_empty_one_0(answers: list[str]) -> None:
    wanted = [answer for answer in answers if normalised(answer)]
    for answer in wanted:
        assert exact_match(answer, answers) == token_f1(answer, answers) == 1
    if wanted:
        assert exact_match("", answers) == token_f1("", answers) == 0


def test_auc_counts_pairs() -> None:
    # Answerable .9 .5 .5, not .5 .1. Six pairs: .9 wins both; each .5 wins one and ties one.
    confidence, is_answerable = [0.9, 0.5, 0.5, 0.5, 0.1], [True, True, False, True, False]
    assert abstention_auc(confidence, is_answerable) == pytest.approx((2 + 1.5 + 1.5) / 6)


def test_auc_is_not_defined_with_one_kind_only() -> None:
    assert math.isnan(abstention_auc([0.1, 0.2], [True, True]))
    assert math.isnan(abstention_auc([0.1, 0.2], [False, False]))
    assert math.isnan(abstention_auc([None, 0.2], [True, False]))
    assert math.isnan(abstention_auc([], []))


def auc_by_pairs(confidence: Sequence[float | None], is_answerable: Sequence[bool]) -> float:
    good = [c for c, a in zip(confidence, is_answerable, strict=True) if a and c is not None]
    bad = [c for c, a in zip(confidence, is_answerable, strict=True) if not a and c is not None]
    wins = [(g > b) + (g == b) / 2 for g, b in itertools.product(good, bad)]
    return sum(wins) / len(wins) if wins else math.nan


RANKED = st.lists(
    st.tuples(st.none() | st.integers(0, 4).map(lambda x: x / 4), st.booleans(), st.integers(0, 3)),
    min_size=1,
    max_size=12,
)


@given(RANKED)
def test_auc_equals_the_share_of_pairs_also_of_rows_drawn_several_times(
    rows: list[tuple[float | None, bool, int]],
) -> None:
    confidence, is_answerable, times = zip(*rows, strict=True)
    expected = auc_by_pairs(confidence, is_answerable)
    assert abstention_auc(confidence, is_answerable) == pytest.approx(expected, nan_ok=True)
    copies = [row for row in rows for _ in range(row[2])]
    repeated = auc_by_pairs([c for c, _, _ in copies], [a for _, a, _ in copies])
    drawn = np.array([times, times], dtype=np.float64)
    found = measured._auc(confidence, is_answerable)(drawn)
    assert found == pytest.approx([repeated, repeated], nan_ok=True)


def row(
    number: int,
    answers: Sequence[str],
    prediction: str,
    confidence: float | None = 0.5,
    *,
    document: str = "",
    error: str = "",
) -> ScoredAnswer:
    question = Question(str(number), f"Question {number}?", tuple(answers), None, document)
    return scored(question, prediction, confidence, error=error)


ROWS = [
    row(1, ["nine"], "nine", 0.9),
    row(2, ["nine ships"], "ships", 0.4),  # F1 2/3
    row(3, [], "", 0.1),
    row(4, [], "ten", 0.4),
]


def test_summary_has_means_and_intervals() -> None:
    found = summarise(ROWS)
    assert (found.num_questions, found.num_answerable) == (4, 2)
    values = {name: interval.value for name, interval in found.measures.items()}
    # Pairs of confidences: .9 wins twice, .4 wins against .1 and ties: 3.5 of 4.
    expected = {"exact": 2 / 4, "f1": (1 + 2 / 3 + 1 + 0) / 4, "answered": 3 / 4, "auc": 3.5 / 4}
    assert values == pytest.approx(expected)
    for interval in found.measures.values():
        assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_what_could_not_be_asked_scores_nothing_even_without_an_answer() -> None:
    failed = row(1, [], "", None, error="too long")
    assert (failed.exact, failed.f1, failed.is_answered) == (0, 0, False)
    assert summarise([*ROWS, failed]).measures["auc"].value == summarise(ROWS).measures["auc"].value


def test_comparison_is_paired() -> None:
    worse = [row(int(r.question.id), r.question.answers, "x y z", 0.5) for r in ROWS]
    found = compare_answers(ROWS, worse)
    assert found["exact"].value == 0.5
    assert found["auc"].value == pytest.approx(3.5 / 4 - 0.5)
    assert found["answered"].value == pytest.approx(3 / 4 - 1)
    assert compare_answers(ROWS, ROWS)["f1"] == (0, 0, 0)


def test_questions_about_one_document_are_drawn_together() -> None:
    apart = [row(i, ["x"], "x" if i < 20 else "") for i in range(40)]
    together = [row(i, ["x"], "x" if i < 20 else "", document=f"d{i // 4}") for i in range(40)]
    narrow, wide = (summarise(rows).measures["exact"] for rows in (apart, together))
    assert narrow.value == wide.value == 0.5
    assert wide.high - wide.low > narrow.high - narrow.low


def test_few_documents_are_not_drawn_as_a_whole() -> None:
    apart = [row(i, ["x"], "x" if i < 10 else "") for i in range(20)]
    together = [row(i, ["x"], "x" if i < 10 else "", document=f"d{i // 5}") for i in range(20)]
    assert summarise(apart).measures["exact"] == summarise(together).measures["exact"]
