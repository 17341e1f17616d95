"""Questions: what a file may hold, how they are asked, rows of a run and their pairing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import chunkwise
from chunkwise.errors import DocumentError, RequestError
from chunkwise.evaluation.questions import Question, asker, passages, prediction, read_questions
from chunkwise.evaluation.runs import evaluate_answers, paired, read_rows, row_dict
from chunkwise.types import Answer, Citation
from tests.fakes import CharCounter


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_reads_questions(tmp_path: Path) -> None:
    file = write(
        tmp_path / "q.jsonl",
        {"question": "Who?", "answers": ["Ann", "Bo"], "context": "Ann.", "other": 1},
        {"question": "When?", "answers": [], "contexts": ["May.", "June."], "id": "q7"},
        {"question": "Where?", "answers": ["Rome"], "id": 12, "document": "a.txt"},
        {"question": "Why?", "answers": [], "contexts": []},
    )
    assert read_questions(file) == [
        Question("1", "Who?", ("Ann", "Bo"), ("Ann.",)),
        Question("q7", "When?", (), ("May.", "June.")),
        Question("12", "Where?", ("Rome",), None, "a.txt"),
        Question("4", "Why?", (), ()),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answers": []}, "line 2: has no `question`; it has: answers"),
        ({"question": "Who?"}, "line 2: has no `answers`"),
        ({"question": " ", "answers": []}, "line 2: `question` is blank"),
        ({"question": "Who?", "answers": "Ann"}, "line 2: `answers` must be a list of texts"),
        ({"question": "Who?", "answers": [" "]}, "line 2: `answers` holds a blank one"),
        ({"question": "Who?", "answers": [], "context": ["a"]}, "`context` must be text"),
        ({"question": "Who?", "answers": [], "contexts": "a"}, "`contexts` must be a list"),
        ({"question": "Who?", "answers": [], "context": "a", "contexts": []}, "give one of them"),
        ({"question": "Who?", "answers": [], "id": "1"}, "line 2: `id` '1' is that of an earlier"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(
    row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "q.jsonl", {"question": "Who?", "answers": []}, row)
    with pytest.raises(DocumentError, match=message):
        read_questions(file)


def test_contexts_are_parts_of_one_document_that_do_not_overlap() -> None:
    hits = passages(Question("1", "Who?", (), ("Ann.", "Bo."), "a.txt"), CharCounter())
    assert [(h.document, h.chunk.span, h.chunk.tokens) for h in hits] == [
        ("a.txt", (0, 4), 4),
        ("a.txt", (5, 8), 3),
    ]
    assert hits[0].score > hits[1].score


def test_contexts_are_all_that_is_read(tmp_path: Path) -> None:
    with chunkwise.open(tmp_path / "c", embedder="hashing", answerer="extractive") as corpus:
        ask = asker(corpus)
        museum, pier = "The museum in Port Grey opened in 1931.", "The pier is green."
        asked = "When did the museum in Port Grey open?"
        found = ask(Question("1", asked, (), (pier, museum, museum)))
        assert prediction(found) == museum
        assert prediction(ask(Question("2", asked, (), ()))) == ""
    assert not (tmp_path / "c").exists()


def test_without_contexts_the_corpus_is_asked(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The pier is green. It was built in 1931 by the town.")
    with chunkwise.open(tmp_path / "c", embedder="hashing", answerer="extractive") as corpus:
        corpus.add(tmp_path / "a.txt")
        found = asker(corpus)(Question("1", "What colour is the pier?", ()))
    assert "The pier is green." in prediction(found)
    assert found.citations[0].document == "a.txt"


def test_labels_of_citations_are_no_part_of_a_prediction() -> None:
    cited = (Citation("a", 0, 1, "x"), Citation("a", 1, 2, "y"))
    generated = Answer("Green [1][2]. See [3], a[0].", cited, fidelity={"kind": "generated"})
    assert prediction(generated) == "Green. See [3], a[0]."
    verbatim = Answer("Green [1].", cited, fidelity={"kind": "verbatim"})
    assert prediction(verbatim) == "Green [1]."
    assert prediction(Answer("Not found in these documents.", found=False)) == ""


ASKED = [Question("1", "Who?", ("Ann",)), Question("2", "When?", (), None, "d"), Question("3", "x")]


def answers(question: Question) -> Answer:
    if question.id == "3":
        raise RequestError("The prompt is too long.")
    return Answer("Ann", confidence=0.75 if question.id == "1" else None)


def test_a_question_that_cannot_be_asked_is_a_row_and_the_rest_goes_on() -> None:
    rows = list(evaluate_answers(reversed(ASKED), answers))
    assert [row.error for row in rows] == ["The prompt is too long.", "", ""]
    assert [row.exact for row in rows] == [0, 0, 1]
    assert [row.confidence for row in rows] == [None, None, 0.75]


def test_rows_come_as_questions_are_answered() -> None:
    asked = []

    def slowly(questions: Sequence[Question]) -> Iterator[Question]:
        for question in questions:
            asked.append(question.id)
            yield question

    rows = evaluate_answers(slowly(ASKED), answers)
    next(rows)
    assert asked == ["1"]


def test_rows_are_read_as_they_were(tmp_path: Path) -> None:
    rows = list(evaluate_answers(ASKED, answers))
    file = write(tmp_path / "rows.jsonl", *(row_dict(row) for row in rows))
    assert paired(ASKED, read_rows(file), name="rows") == rows
    assert paired(ASKED[1:2], read_rows(file), name="rows") == rows[1:2]


def test_runs_over_other_questions_are_not_compared() -> None:
    earlier = {row.question.id: row for row in evaluate_answers(ASKED, answers)}
    with pytest.raises(DocumentError, match="rows: has no row for the question '4'"):
        paired([Question("4", "Who?", ("Ann",))], earlier, name="rows")
    for other in (Question("1", "Whom?", ("Ann",)), Question("1", "Who?", ("Bo",))):
        with pytest.raises(DocumentError, match="other answers under the id '1'"):
            paired([other], earlier, name="rows")


def test_a_file_of_no_rows_is_no_baseline(tmp_path: Path) -> None:
    file = write(tmp_path / "q.jsonl", {"question": "Who?", "answers": []})
    with pytest.raises(DocumentError, match=r"q\.jsonl, line 1: has no `prediction`"):
        read_rows(file)
