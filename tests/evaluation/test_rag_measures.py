"""The measures of answers and passages: worked examples with a judge whose verdicts are known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from chunkwise.errors import ConfigError, DocumentError
from chunkwise.evaluation.judging import Asked, Claim
from chunkwise.evaluation.questions import Question
from chunkwise.evaluation.rag_measures import (
    MEASURES,
    RagAnswer,
    both_defined,
    compare_rag,
    context_precision,
    correctness,
    rag_scores,
    relevancy,
    summarise_rag,
)
from chunkwise.evaluation.verdicts import RememberingJudge
from chunkwise.types import Citation, Hit
from tests.fakes import HashingEmbedder, make_hit


@dataclass
class KnownJudge:
    """A `Judge` whose claims are parted by "|" and whose verdicts are given.

    Attributes:
        holds: Claims that a passage supports, by its text.
        back: Questions to which any answer is the answer.
        asked_for: Pairs of claim and passage that were judged.
    """

    holds: Mapping[str, Sequence[str]] = field(default_factory=dict)
    back: Sequence[Asked] = (Asked("who built it?"),)
    asked_for: list[tuple[str, str]] = field(default_factory=list)
    fingerprint: str = "known"

    def claims(self, text: str, question: str) -> list[Claim]:
        return [Claim(part.strip(), question) for part in text.split("|") if part.strip()]

    def supports(self, claim: Claim, passage: Hit) -> bool:
        self.asked_for.append((claim.text, passage.chunk.text))
        return claim.text in self.holds.get(passage.chunk.text, ())

    def asked(self, answer: str, count: int) -> list[Asked]:
        return list(self.back)[:count]


def answer(
    text: str, gold: str = "", passages: Sequence[str] = (), cited: Sequence[str] = ()
) -> RagAnswer:
    question = Question("1", "who built it?", (gold,) if gold else ())
    citations = tuple(Citation("d", 0, len(each), each) for each in cited)
    return RagAnswer(question, text, tuple(map(make_hit, passages)), citations)


def scores(given: RagAnswer, judge: KnownJudge) -> dict[str, float]:
    return rag_scores(given, judge, HashingEmbedder())


@pytest.mark.parametrize(
    ("useful", "value"),
    [
        ([1, 0, 0, 0], 1.0),
        ([0, 1], 0.5),
        ([1, 0, 1], (1 + 2 / 3) / 2),
        ([0, 0], 0.0),
        ([], 0.0),
        ([1] + [0] * 9, 1.0),
    ],
)
def test_context_precision_is_the_mean_precision_at_useful_ranks(
    useful: list[int], value: float
) -> None:
    assert context_precision([bool(each) for each in useful]) == pytest.approx(value)


def test_correctness_is_a_weighted_sum_of_f1_and_similarity() -> None:
    found = correctness(shared=2, only_answer=1, only_reference=3, similarity=0.8)
    assert found == pytest.approx(0.75 * (2 / (2 + 0.5 * (1 + 3))) + 0.25 * 0.8)
    twice = correctness(shared=2, only_answer=1, only_reference=3, similarity=0, beta=2, weight=1)
    precision, recall = 2 / 3, 2 / 5
    assert twice == pytest.approx(5 * precision * recall / (4 * precision + recall))
    assert correctness(shared=0, only_answer=0, only_reference=0, similarity=1) == 0.25


def test_relevancy_is_zero_only_if_all_questions_say_that_the_answer_evades() -> None:
    assert relevancy([0.9, 0.6, 0.3], [True, True, True]) == 0
    assert relevancy([0.9, 0.6, 0.3], [True, True, False]) == pytest.approx(0.6)
    given, back = answer("a"), [Asked("who built it?", True)] * 2
    assert (
        scores(given, KnownJudge(back=[*back, Asked("who built it?", True)]))["answer_relevancy"]
        == 0
    )
    assert scores(given, KnownJudge(back=[*back, Asked("who built it?")]))[
        "answer_relevancy"
    ] == pytest.approx(1)


def test_two_of_three_claims_supported() -> None:
    judge = KnownJudge({"p1": ["a"], "p2": ["b"]})
    found = scores(answer("a|b|c", passages=["p1", "p2"]), judge)
    assert found["faithfulness"] == pytest.approx(2 / 3)


def test_all_measures_of_one_answer() -> None:
    judge = KnownJudge(
        {"p1": ["g1"], "p2": ["x"], "p3 p3": ["g1", "a"], "g1|g2": ["a"], "a|b": ["g2"], "q": ["b"]}
    )
    given = answer("a|b", "g1|g2", ["p1", "p2", "p3 p3"], cited=["q", "p2"])
    found = scores(given, judge)
    one, other = HashingEmbedder().embed(["a|b", "g1|g2"])
    assert set(found) == set(MEASURES)
    assert found["faithfulness"] == 0.5
    assert found["answer_similarity"] == pytest.approx(float(one @ other))
    expected = 0.75 * (1 / (1 + 0.5 * (1 + 1))) + 0.25 * float(one @ other)
    assert found["answer_correctness"] == pytest.approx(expected)
    assert found["context_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["context_recall"] == 0.5
    assert found["noise_share"] == pytest.approx(1 / 4)
    assert found["abstention_accuracy"] == 1
    assert found["citation_precision"] == 0.5
    assert found["citation_recall"] == 0.5


def test_an_answer_without_citations_has_no_precision_and_no_recall_of_them() -> None:
    found = scores(answer("a|b", "g"), KnownJudge())
    assert math.isnan(found["citation_precision"])
    assert found["citation_recall"] == 0


def test_silence_where_an_answer_is_known_is_worth_nothing() -> None:
    found = scores(answer("", "g", ["p"]), KnownJudge({"p": ["g"]}))
    assert math.isnan(found["faithfulness"])
    assert found["answer_correctness"] == found["answer_relevancy"] == 0
    assert found["answer_similarity"] == found["abstention_accuracy"] == 0
    assert found["context_recall"] == found["context_precision"] == 1


def test_silence_where_there_is_no_answer_is_right_and_nothing_else_is_defined() -> None:
    found = scores(answer("", "", ["p"]), KnownJudge())
    defined = {name for name, value in found.items() if not math.isnan(value)}
    assert defined == {"abstention_accuracy"}
    assert found["abstention_accuracy"] == 1
    assert scores(answer("a", "", ["p"]), KnownJudge())["abstention_accuracy"] == 0


def test_means_are_over_the_rows_where_a_measure_is_defined() -> None:
    rows = [dict.fromkeys(MEASURES, value) for value in (1.0, math.nan, 0.5)]
    found = summarise_rag(rows, resamples=200)
    assert found["faithfulness"].value == 0.75
    assert found["faithfulness"].low >= 0.5
    empty = summarise_rag([dict.fromkeys(MEASURES, math.nan)] * 3, resamples=50)
    assert math.isnan(empty["faithfulness"].value)


def test_a_comparison_is_on_the_same_draws() -> None:
    chance = np.random.default_rng(0)
    base = [dict.fromkeys(MEASURES, float(x)) for x in chance.random(40)]
    more = [{name: value + 0.1 for name, value in row.items()} for row in base]
    found = compare_rag(more, base, resamples=300)["context_recall"]
    assert found.value == pytest.approx(0.1)
    assert found.high - found.low < 1e-9
    assert found.is_clear


def test_a_comparison_is_over_the_rows_where_both_are_defined() -> None:
    rows = [dict.fromkeys(MEASURES, value) for value in (1.0, 0.5, math.nan, 0.25)]
    base = [dict.fromkeys(MEASURES, value) for value in (math.nan, 0.5, 0.9, 0.25)]
    assert compare_rag(rows, base, resamples=50)["faithfulness"].value == 0
    assert both_defined(rows, base)["faithfulness"] == 2


def test_verdicts_are_remembered_by_judge_claim_and_chunk(tmp_path: Path) -> None:
    file = tmp_path / "verdicts.jsonl"
    judge = KnownJudge({"p": ["a"]})
    first = RememberingJudge(judge, file)
    claim, passage = Claim("a", "q"), make_hit("p")
    assert [first.supports(claim, passage) for _ in range(3)] == [True] * 3
    assert not first.supports(Claim("b", "q"), passage)
    assert judge.asked_for == [("a", "p"), ("b", "p")]
    with file.open("a") as torn:
        torn.write('{"key": "' + 32 * "0" + '", "supp')
    silent = KnownJudge()
    again = RememberingJudge(silent, file)
    assert again.supports(claim, passage)
    assert again.supports(claim, make_hit("p", start=90, score=0.1))
    assert silent.asked_for == []
    assert not again.supports(Claim("a", "another question"), passage)
    assert not again.supports(claim, make_hit("p", headings=("Elsewhere",)))
    assert len(silent.asked_for) == 2
    other = RememberingJudge(KnownJudge(fingerprint="other"), file)
    assert not other.supports(claim, passage)
    assert len(file.read_text().splitlines()) == 5


def test_claims_and_questions_back_are_remembered_too(tmp_path: Path) -> None:
    file = tmp_path / "verdicts.jsonl"
    first = RememberingJudge(KnownJudge(), file)
    said = first.claims("a | b", "q"), first.asked("a", 2)
    again = RememberingJudge(KnownJudge(back=[Asked("what?", is_evasive=True)]), file)
    assert (again.claims("a | b", "q"), again.asked("a", 2)) == said
    assert len(file.read_text().splitlines()) == 2
    assert again.asked("a", 1) == [Asked("what?", is_evasive=True)]


@pytest.mark.parametrize(
    "text", ["notes without an end", "a\nb", '{"key": "x", "value": 1}', '{"key": "00", "supp']
)
def test_a_foreign_file_stays_as_it_is(text: str, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(text)
    with pytest.raises(DocumentError, match="holds no verdicts"):
        RememberingJudge(KnownJudge(), file)
    assert file.read_text() == text


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text('{"question": "?"}\n')
    with pytest.raises(DocumentError, match="holds no verdicts"):
        RememberingJudge(KnownJudge(), tmp_path / "f")
    with pytest.raises(ConfigError, match="cannot be read"):
        RememberingJudge(KnownJudge(), tmp_path)
