"""A run of questions with a judge: a row each, kept in a file and read again as a baseline."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chunkwise.errors import DocumentError, RequestError
from chunkwise.evaluation.bootstrap import clusters_by_document
from chunkwise.evaluation.judging import Judge, judges
from chunkwise.evaluation.questions import Question, passages, prediction
from chunkwise.evaluation.rag_measures import MEASURES, RagAnswer, rag_scores
from chunkwise.evaluation.rows import read_lines
from chunkwise.registry import Spec, spec_name
from chunkwise.types import Answer, Embedder, Query

if TYPE_CHECKING:
    from chunkwise.pipeline.corpus import Corpus


@dataclass(frozen=True, slots=True)
class RagRow:
    """One question of a run.

    Attributes:
        question: What was asked.
        text: What was answered; empty for "not found".
        scores: `rag_measures.MEASURES`; all NaN where there was an error.
        error: Why it could not be asked or judged.
    """

    question: Question
    text: str
    scores: dict[str, float] = field(default_factory=lambda: dict.fromkeys(MEASURES, math.nan))
    error: str = ""


def judge_of(spec: Spec, corpus: Corpus) -> Judge:
    """The judge of that name, with what it needs of a corpus: its segmenter, its language model.

    Raises:
        UnknownNameError: There is none of that name.
        ConfigError: It needs a language model and none is set.
    """
    parts: dict[str, Any] = {"segmenter": corpus.parts.segmenter}
    if "model" in judges.options(spec_name(spec)):
        parts["model"] = corpus.parts.model
    return judges.build(spec, **parts)


def rag_asker(corpus: Corpus) -> Callable[[Question], RagAnswer]:
    """What answers a question by the corpus's settings, and says what from: its contexts, else
    passages of the corpus."""
    answerer = corpus.parts.answerer()

    def ask(question: Question) -> RagAnswer:
        if question.contexts is None:
            hits = corpus.passages(question.text)
        else:
            hits = passages(question, corpus.parts.counter)
        *_, answer = answerer.stream(Query(question.text), hits)
        assert isinstance(answer, Answer), "an answerer ended without an answer"
        return RagAnswer(question, prediction(answer), tuple(hits), answer.citations)

    return ask


def evaluate_rag(
    questions: Iterable[Question],
    ask: Callable[[Question], RagAnswer],
    judge: Judge,
    embedder: Embedder,
) -> Iterator[RagRow]:
    """A row for each question, as it is answered and judged. One that cannot be asked or judged
    is a row with `error`."""
    for question in questions:
        try:
            given = ask(question)
            scores = rag_scores(given, judge, embedder)
        except RequestError as exc:
            yield RagRow(question, "", error=str(exc))
        else:
            yield RagRow(question, given.text, scores)


def rag_row(row: RagRow, judge: str) -> dict[str, Any]:
    """A row as a file holds it, with the fingerprint of the judge; what is not defined is null."""
    scores = {name: None if math.isnan(x) else x for name, x in row.scores.items()}
    return {
        "id": row.question.id,
        "question": row.question.text,
        "answers": list(row.question.answers),
        "document": row.question.document,
        "judge": judge,
        "prediction": row.text,
        **scores,
        "error": row.error,
    }


def read_earlier_rag(
    path: str | os.PathLike[str], questions: Sequence[Question], judge: str
) -> list[dict[str, float]]:
    """Scores of an earlier run, in the order of these questions.

    Args:
        path: The file.
        questions: What is asked now.
        judge: Fingerprint of the judge of this run: scores of two judges are not alike.

    Raises:
        DocumentError: The file cannot be read, has no row for a question or one of other words or
            gold answers, or another judge has made it.
    """
    lines = {line.id(): line for line in read_lines(path)}
    found = []
    for question in questions:
        line = lines.get(question.id)
        if line is None or line.text("question") != question.text:
            raise DocumentError(
                os.fspath(path),
                f"has no row for the question {question.id!r} with these words; compare runs of "
                "one file.",
            )
        if line.texts("answers") != question.answers:
            raise line.fails(
                f"the gold answers of {question.id!r} were {list(line.texts('answers'))!r} and "
                f"are {list(question.answers)!r}; compare runs of one file."
            )
        if line.text("judge") != judge:
            raise line.fails(
                f"was judged by {line.text('judge')!r} and this run by {judge!r}; compare runs of "
                "one judge."
            )
        defined = {n for n in MEASURES if n not in line.values or line.values[n] is not None}
        found.append({n: line.number_at(n) if n in defined else math.nan for n in MEASURES})
    return found


def clusters(questions: Sequence[Question]) -> list[tuple[str, int]]:
    """What is drawn together; see `clusters_by_document`."""
    return clusters_by_document([question.document for question in questions])
