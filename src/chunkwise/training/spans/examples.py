"""Examples of a reader: a question, some passages, and which tokens answer it, if any do.

Which passages a question gets is drawn anew in each pass over the data: its own with or without
distractors, or distractors alone, which makes it unanswerable. The draw depends on seed, pass
and question only.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkwise.rag.answering.reading import Encoded, ReadingOptions, WordPieces, windows_of
from chunkwise.rag.answering.spans import Window, token_range
from chunkwise.training.spans.data import Questions
from chunkwise.training.spans.distractors import distractors
from chunkwise.types import Span


@dataclass(frozen=True, slots=True)
class Drawing:
    """How passages are drawn for a question.

    Attributes:
        unanswerable: Share of the answerable questions that get distractors only.
        foreign: Share of distractors that are any passage of the set instead of a near one.
        extra: Odds of 0, 1, 2 ... distractors beside the question's own passage.
    """

    unanswerable: float = 0.25
    foreign: float = 0.2
    extra: tuple[float, ...] = (0.5, 0.3, 0.2)


class Group(NamedTuple):
    """A question and the passages it is asked over.

    Attributes:
        question: Index of the question.
        passages: Indices of passages, in the order in which they are read.
        answer: The answer's characters in the question's own passage; None: unanswerable.
    """

    question: int
    passages: tuple[int, ...]
    answer: Span | None


class Example(NamedTuple):
    """A group in windows.

    Attributes:
        windows: Of all passages.
        starts: Allowed first tokens, as places among the passage tokens of all windows, one
            window's behind the other's; empty: no answer.
        ends: Allowed last tokens, the same way.
        answers: For each window, whether it holds the answer.
    """

    windows: list[Window]
    starts: list[int]
    ends: list[int]
    answers: list[bool]


class ExampleSet:
    """Questions of one split of one data set, in tokens.

    Args:
        asked: Passages and questions.
        pieces: The tokenizer.
        options: How windows are cut.
        cache: Folder that distractors are kept in.
    """

    def __init__(
        self, asked: Questions, pieces: WordPieces, options: ReadingOptions, cache: Path | None
    ) -> None:
        self.asked, self._options, self._edges = asked, options, pieces.edges
        self._questions = pieces.encode([q.text for q in asked.questions])
        self._passages = pieces.encode([p.text for p in asked.passages])
        self._near: NDArray[np.int32] = distractors(asked, cache)

    def __len__(self) -> int:
        return len(self.asked.questions)

    def draw(self, question: int, drawing: Drawing, chance: random.Random) -> Group:
        """The passages of a question in one pass."""
        asked = self.asked.questions[question]
        (extra,) = chance.choices(range(len(drawing.extra)), drawing.extra)
        is_kept = not asked.answers or chance.random() >= drawing.unanswerable
        others = self._others(question, extra if is_kept else max(extra, 1), drawing, chance)
        if not is_kept and not others:
            is_kept = True  # a set of one passage has no distractor
        passages = [asked.passage, *others] if is_kept else others
        chance.shuffle(passages)
        has_answer = is_kept and bool(asked.answers)
        return Group(
            question, tuple(passages), chance.choice(asked.answers) if has_answer else None
        )

    def near(self, question: int, most: int) -> list[int]:
        """Distractors of a question, nearest first."""
        return [int(p) for p in self._near[question] if p >= 0][:most]

    def offsets(self, passage: int) -> list[tuple[int, int]]:
        """Characters of the tokens of a passage."""
        return self._passages[passage].offsets

    def tokens(self, group: Group) -> tuple[int, int]:
        """Tokens of a group's longest window and of all its windows, special ones included."""
        options = self._options
        head = min(len(self._questions[group.question].ids), options.question_tokens) + 3
        longest = total = 0
        for place in group.passages:
            length = len(self._passages[place].ids)
            own = min(length, options.window_tokens)
            count = 1 + -(-(length - own) // options.stride_tokens) if length else 0
            longest, total = max(longest, head + own), total + count * (head + own)
        return longest, total

    def example(self, group: Group) -> Example:
        """A group in windows, with its targets."""
        asked = self.asked.questions[group.question]
        texts = [self._passages[place] for place in group.passages]
        windows = windows_of(
            self._questions[group.question].ids, [t.ids for t in texts], self._edges, self._options
        )
        starts: list[int] = []
        ends: list[int] = []
        answers = []
        before = 0
        for window in windows:
            is_own = group.passages[window.passage] == asked.passage
            target = self._target(texts[window.passage], window, group) if is_own else None
            answers.append(target is not None)
            if target is not None:
                places = range(before + target.start, before + target.end)
                starts += places if asked.is_loose else places[:1]
                ends += places if asked.is_loose else places[-1:]
            before += window.own
        return Example(windows, starts, ends, answers)

    def _target(self, text: Encoded, window: Window, group: Group) -> Span | None:
        """The answer's tokens within a window that holds it whole."""
        found = token_range(text.offsets, group.answer) if group.answer is not None else None
        if found is None:
            return None
        start, end = found.start - window.first, found.end - window.first
        return Span(start, end) if start >= 0 and end <= window.own else None

    def _others(
        self, question: int, count: int, drawing: Drawing, chance: random.Random
    ) -> list[int]:
        """Distractors without repetition; nearer ones are likelier."""
        near = self.near(question, self._near.shape[1])
        weights = [1 / (1 + rank) for rank in range(len(near))]
        found: list[int] = []
        for _ in range(4 * count):
            if len(found) == count:
                break
            if near and chance.random() >= drawing.foreign:
                (place,) = chance.choices(near, weights)
            else:
                place = chance.randrange(len(self.asked.passages))
            if place != self.asked.questions[question].passage and place not in found:
                found.append(place)
        return found


def seeded(*parts: object) -> random.Random:
    """A generator whose numbers depend on the parts only, in every process."""
    return random.Random("/".join(map(str, parts)))


def spread(items: Sequence[int], most: int, seed: str) -> list[int]:
    """At most `most` of the items, drawn by `seed`, in their order."""
    if len(items) <= most:
        return list(items)
    return sorted(seeded(seed).sample(list(items), most))
