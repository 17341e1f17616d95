"""What questions are made from: stretches of a corpus's documents, drawn at random, and drafts."""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from chunkwise.evaluation.spans import Place
from chunkwise.types import Document, Span

if TYPE_CHECKING:
    from chunkwise.pipeline.corpus import Corpus

_PROSE = frozenset({"paragraph", "list_item", "quote", "note"})
_CHARS = 4000  # of a window, about
_MOST_DOCUMENTS = 300
_BREAKS = ("\n", ". ", " ")


class Section(NamedTuple):
    """A heading of a document, and the text under it up to the next one."""

    title: Span
    body: Span


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a document.

    Attributes:
        document: Its name.
        text: The stretch, verbatim.
        start: Where it begins in the document.
        prose: Running text in it, by offsets of the document; tables and code are left out.
        sections: Those that begin and end in it, by offsets of the document.
    """

    document: str
    text: str
    start: int
    prose: tuple[Span, ...]
    sections: tuple[Section, ...]

    def slice(self, span: Span) -> str:
        """The text at a span of the document."""
        return self.text[span.start - self.start : span.end - self.start]


@dataclass(frozen=True, slots=True)
class Draft:
    """A question that was made, before it is checked.

    Attributes:
        question: The question.
        kind: What made it: a rule, or `model`.
        references: Characters that answer it; empty: what was given as answer is not in the text.
        excerpts: Their text, verbatim.
        answer: The short answer, verbatim in an excerpt.
    """

    question: str
    kind: str
    references: tuple[Place, ...]
    excerpts: tuple[str, ...]
    answer: str


class Writer(Protocol):
    """Makes questions from a window.

    Attributes:
        is_english_only: Whether other languages give it nothing.
        name: What people read.
    """

    is_english_only: ClassVar[bool]

    @property
    def name(self) -> str: ...  # noqa: D102

    def drafts(self, window: Window, chance: random.Random) -> Iterator[Draft]:
        """Questions with what answers them, in the order in which they should be tried."""
        ...


def windows_of(document: Document) -> list[Window]:
    """The whole document in windows of some thousand characters; blank ones are left out."""
    heads = [Span(block.start, block.end) for block in document.blocks if block.kind == "heading"]
    return [_window(document, prose, heads) for prose in _grouped(document)]


def drawn_windows(corpus: Corpus, count: int, chance: random.Random) -> list[Window]:
    """Windows of documents that are drawn, about twice as many as questions are wanted, in random
    order."""
    names = [info.name for info in corpus.documents()]
    names = chance.sample(names, min(len(names), _MOST_DOCUMENTS))
    found: list[Window] = []
    for name in names:
        windows = windows_of(corpus.document(name))
        most = max(2, math.ceil(2 * count / len(names)))
        found += chance.sample(windows, min(len(windows), most))
    chance.shuffle(found)
    return found


def _grouped(document: Document) -> Iterator[list[Span]]:
    """Running text by windows."""
    group: list[Span] = []
    for span in _prose(document):
        if group and span.end - group[0].start > _CHARS:
            yield group
            group = []
        group.append(span)
    if group:
        yield group


def _prose(document: Document) -> Iterator[Span]:
    """Running text in order; without any block, all of it. Long stretches are cut up."""
    blocks = [b for b in document.blocks if b.kind in _PROSE]
    spans = [Span(b.start, b.end) for b in blocks]
    if not document.blocks:
        spans = [Span(0, len(document.text))]
    for start, end in spans:
        while end - start > _CHARS:
            stop = _break(document.text, start)
            yield Span(start, stop)
            start = stop
        if document.text[start:end].strip():
            yield Span(start, end)


def _break(text: str, start: int) -> int:
    """Where a stretch of at most so many characters may end."""
    for mark in _BREAKS:
        at = text.rfind(mark, start + _CHARS // 2, start + _CHARS)
        if at >= 0:
            return at + len(mark)
    return start + _CHARS


def _window(document: Document, prose: list[Span], heads: Sequence[Span]) -> Window:
    """A window that begins with the last heading before its text, if that is near."""
    first, end = prose[0].start, prose[-1].end
    low = bisect.bisect_right(heads, first, key=lambda head: head.end)
    high = bisect.bisect_left(heads, end, key=lambda head: head.start)
    if low and first - heads[low - 1].start < _CHARS:
        low -= 1
    inside = heads[low:high]
    start = inside[0].start if inside and inside[0].start < first else first
    ends = [*(head.start for head in inside[1:]), end][: len(inside)]
    sections = tuple(
        Section(head, Span(head.end, stop))
        for head, stop in zip(inside, ends, strict=True)
        if document.text[head.end : stop].strip()
    )
    return Window(document.name, document.text[start:end], start, tuple(prose), sections)
