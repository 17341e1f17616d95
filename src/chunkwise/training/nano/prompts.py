"""Contexts to rows of tokens, exactly as `ask` writes its prompts.

A row is one context and all its questions. Each question is a branch: it sees the context and
itself, its positions go on where the context ends. So a branch is, token by token, the prompt of
its question alone, and many answers are learnt from one reading of the passages.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from chunkwise.llm.models.tokenizer import Tokenizer
from chunkwise.prompting import passage_segments, text_hit
from chunkwise.training.nano.questions import Context, Question, words
from chunkwise.training.nano.vocabulary import SYSTEM

NONE = -100
"""The target of a token after which nothing is to be learnt."""


@dataclass(slots=True)
class Row:
    """A context with its questions in tokens; all lists have one value a token.

    Attributes:
        ids: Token ids.
        positions: Of each token.
        branch: 0 in the context, then the number of the question from 1.
        passage: 0 outside of passages, then the number of the passage from 1.
        targets: What follows, inside of answers; `NONE` elsewhere.
        questions: The questions, by branch.
        chunk: As `passage`, 0 also in labels and ends of passages.
    """

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    branch: list[int] = field(default_factory=list)
    passage: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    questions: tuple[Question, ...] = ()
    chunk: list[int] = field(default_factory=list)

    def add(
        self, ids: Sequence[int], start: int, *, branch: int = 0, passage: int = 0, chunk: int = 0
    ) -> int:
        """Tokens from position `start` on; the position behind them."""
        self.ids += ids
        self.positions += range(start, start + len(ids))
        self.branch += [branch] * len(ids)
        self.passage += [passage] * len(ids)
        self.targets += [NONE] * len(ids)
        self.chunk += [chunk] * len(ids)
        return start + len(ids)


class Prompts:
    """Writes rows with one tokenizer.

    Args:
        tokenizer: The tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._begin = tokenizer.encode("<|begin|><|system|>", special=True)
        self._user = tokenizer.encode("<|end|><|user|>", special=True)
        self._assistant = tokenizer.encode("<|end|><|assistant|>", special=True)
        self._end = tokenizer.encode("<|end|>", special=True)
        self._known: dict[str, list[int]] = {}

    def row(self, context: Context, documents: Sequence[str]) -> Row:
        """A row with all questions of a context.

        Args:
            context: Passages and questions.
            documents: The document that each passage is from, for its label.
        """
        row = Row(questions=context.questions)
        row.add(self._start(), 0)
        for number, (text, document) in enumerate(
            zip(context.passages, documents, strict=True), start=1
        ):
            before, _, behind = passage_segments(number, text_hit(text, document))
            row.add(self._frame(before.text), len(row.ids), passage=number)
            row.add(self.tokenizer.encode(text), len(row.ids), passage=number, chunk=number)
            row.add(self._frame(behind.text), len(row.ids), passage=number)
        end = len(row.ids)
        for branch, question in enumerate(context.questions, start=1):
            self._ask(row, question, end, branch)
        return row

    def anchor(self, document: str) -> list[int]:
        """What stands before the first chunk of a prompt whose first passage is of a document."""
        before, _, _ = passage_segments(1, text_hit("", document))
        return [*self._start(), *self._frame(before.text)]

    def _start(self) -> list[int]:
        return [*self._begin, *self._frame(SYSTEM), *self._user]

    def _ask(self, row: Row, question: Question, start: int, branch: int) -> None:
        asked = self.tokenizer.encode(f"Question: {question.text}") + self._assistant
        answer = self.tokenizer.encode(f" {question.answer}") + self._end
        row.add(asked + answer[:-1], start, branch=branch)
        row.targets[-len(answer) :] = answer

    def _frame(self, text: str) -> list[int]:
        """The tokens of a text that comes again and again."""
        if text not in self._known:
            self._known[text] = self.tokenizer.encode(text)
        return self._known[text]


def document_names(chance: random.Random, count: int) -> list[str]:
    """Names of the documents that passages are from: one for all, or one for each."""
    names = [chance.choice(words.FILES) + chance.choice(words.ENDINGS) for _ in range(count)]
    return [names[0]] * count if names and chance.random() < 0.5 else names
