"""Questions with gold answers: read from a file, and put to what answers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chunkwise.evaluation.rows import Line, read_lines
from chunkwise.types import Answer, Chunk, Hit, Query, Span, TokenCounter, content_id

if TYPE_CHECKING:
    from chunkwise.pipeline.corpus import Corpus

_LABEL = re.compile(r"[ \t]*\[(\d{1,3})\]")


@dataclass(frozen=True, slots=True)
class Question:
    """A question and what is known of its answer.

    Attributes:
        id: Unlike that of any other question of the file.
        text: The question.
        answers: Gold answers; empty: it has none.
        contexts: The passages to answer from; None: the corpus.
        document: The document that it is about, or empty.
    """

    id: str
    text: str
    answers: tuple[str, ...] = ()
    contexts: tuple[str, ...] | None = None
    document: str = ""

    @property
    def is_answerable(self) -> bool:
        """Whether there is a gold answer."""
        return bool(self.answers)


def read_questions(path: str | os.PathLike[str]) -> list[Question]:
    """Questions of a file with one JSON object a line.

    Keys: `question`; `answers`, a list, empty for a question without an answer; and if wanted
    `context` (text) or `contexts` (a list), `id` (else the line's number) and `document`.

    Raises:
        DocumentError: The file cannot be read, or a line cannot be used; the message names it.
    """
    found: dict[str, Question] = {}
    for line in read_lines(path):
        question = question_of(line)
        if question.id in found:
            raise line.fails(f"`id` {question.id!r} is that of an earlier line.")
        found[question.id] = question
    return list(found.values())


def question_of(line: Line) -> Question:
    """The question that a line holds."""
    text, answers = line.text("question"), line.texts("answers")
    if not text.strip():
        raise line.fails("`question` is blank.")
    if not all(answer.strip() for answer in answers):
        raise line.fails("`answers` holds a blank one; an empty list means that there is none.")
    return Question(line.id(), text, answers, _contexts(line), line.text("document", ""))


def passages(question: Question, counter: TokenCounter) -> list[Hit]:
    """The contexts of a question as hits, in the order given: parts of one document."""
    hits: list[Hit] = []
    start = 0
    for rank, text in enumerate(question.contexts or (), start=1):
        span = Span(start, start + len(text))
        chunk = Chunk(content_id(text), text, span, counter.count(text))
        hits.append(Hit(chunk, 1 / rank, question.document or "context"))
        start = span.end + 1
    return hits


def asker(corpus: Corpus) -> Callable[[Question], Answer]:
    """What answers a question by the corpus's settings: from its contexts, else from the corpus.

    Contexts are not searched, chosen or shortened: the answerer gets all of them.
    """
    answerer = corpus.parts.answerer()

    def ask(question: Question) -> Answer:
        if question.contexts is None:
            return corpus.ask(question.text)
        hits = passages(question, corpus.parts.counter)
        *_, answer = answerer.stream(Query(question.text), hits)
        assert isinstance(answer, Answer), "an answerer ended without an answer"
        return answer

    return ask


def prediction(answer: Answer) -> str:
    """What an answer says, for comparing: without labels of citations; empty for "not found"."""
    if not answer.found:
        return ""
    if answer.fidelity.get("kind") != "generated":
        return answer.text
    known = range(1, len(answer.citations) + 1)
    return _LABEL.sub(lambda label: "" if int(label[1]) in known else label[0], answer.text)


def _contexts(line: Line) -> tuple[str, ...] | None:
    if "contexts" in line.values and "context" in line.values:
        raise line.fails("has both `context` and `contexts`; give one of them.")
    if "contexts" in line.values:
        return line.texts("contexts")
    return (line.text("context"),) if "context" in line.values else None
