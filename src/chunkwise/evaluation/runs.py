"""A run over questions: a scored row each, kept in a file and read again as a baseline."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from chunkwise.errors import DocumentError, RequestError
from chunkwise.evaluation.answers import ScoredAnswer, scored
from chunkwise.evaluation.questions import Question, prediction, question_of
from chunkwise.evaluation.rows import Line, read_lines
from chunkwise.types import Answer


def evaluate_answers(
    questions: Iterable[Question], ask: Callable[[Question], Answer]
) -> Iterator[ScoredAnswer]:
    """A row for each question, as it is answered. One that cannot be asked is a row with `error`.

    Args:
        questions: What to ask.
        ask: What answers; see `questions.asker`.
    """
    for question in questions:
        try:
            answer = ask(question)
        except RequestError as exc:
            yield scored(question, "", None, error=str(exc))
        else:
            yield scored(question, prediction(answer), answer.confidence)


def row_dict(row: ScoredAnswer) -> dict[str, Any]:
    """A row as a file holds it: what `read_rows` reads, without the contexts."""
    question = row.question
    return {
        "id": question.id,
        "question": question.text,
        "answers": list(question.answers),
        "document": question.document,
        "prediction": row.prediction,
        "confidence": row.confidence,
        "exact": row.exact,
        "f1": row.f1,
        "error": row.error,
    }


def read_rows(path: str | os.PathLike[str]) -> dict[str, ScoredAnswer]:
    """Rows of an earlier run, by the id of the question.

    Raises:
        DocumentError: The file cannot be read, or a line is no row; the message names it.
    """
    return {row.question.id: row for row in map(_row, read_lines(path))}


def paired(
    questions: Sequence[Question], earlier: dict[str, ScoredAnswer], *, name: str
) -> list[ScoredAnswer]:
    """The earlier rows of these questions, in their order; others are left out.

    Args:
        questions: What is asked now.
        earlier: Rows of another run, by id.
        name: The file they are from, for errors.

    Raises:
        DocumentError: A question has no row there, or one with other words or gold answers.
    """
    for question in questions:
        row = earlier.get(question.id)
        if row is None:
            raise DocumentError(
                name, f"has no row for the question {question.id!r}; compare runs of one file."
            )
        if (row.question.text, row.question.answers) != (question.text, question.answers):
            raise DocumentError(
                name,
                f"has another question or other answers under the id {question.id!r}; "
                "compare runs of one file.",
            )
    return [earlier[question.id] for question in questions]


def _row(line: Line) -> ScoredAnswer:
    confidence = line.number_at("confidence") if line.values.get("confidence") is not None else None
    return ScoredAnswer(
        question_of(line),
        line.text("prediction"),
        confidence,
        line.number_at("exact"),
        line.number_at("f1"),
        line.text("error", ""),
    )
