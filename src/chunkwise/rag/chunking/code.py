"""Source code cut between its definitions; what is too long between its lines.

A function, a method or the header of a class, with its comments and decorators, is one piece, and
so is each stretch of code between blank lines. Neighbours that fit are put together, so that the
chunks are few and begin at definitions, outer ones before inner ones. A definition that fits is
never cut. One that does not is cut before an inner definition, else behind a blank line, else at
the line that is indented least. Lines that open the classes and functions around a chunk are among
its headings (`Chunk.headings`), not in its span. Code blocks in other documents stay with the text
of their section. Sections without code are cut as `structural` cuts them.

Source: none; what tree-sitter splitters do, with the parser's blocks in place of a grammar.
Differs: works in any language: inside of a definition, words and indentation decide.
Exact when: there is no code: `structural`.
Cost: linear; the programme is O(blocks x blocks in a chunk).
Helps or hurts: on text without code it cuts as `structural` does (measured); on its own kind of
    documents it was not measured in retrieval.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chunkwise.rag.chunking.pieces import (
    Choose,
    Ruler,
    add_overlap,
    best_runs,
    breaks_of,
    check_ratio,
    check_sizes,
    merge,
    pack,
)
from chunkwise.rag.chunking.source import CODE_KINDS, line_places
from chunkwise.rag.chunking.structure import (
    BLOCK,
    ITEM,
    KIND,
    NEVER,
    PAGE,
    SECTION,
    Place,
    packed,
    places_of,
    sections,
    strongest,
)
from chunkwise.types import Block, Document, Query, Span, TokenCounter

__all__ = ["CodeChunker"]

_WORTH = {SECTION: 0.5, KIND: 0.4, PAGE: 0.3, BLOCK: 0.2, ITEM: 0.1, NEVER: -10.0}
_DEFINITION = 0.5  # of an outermost one more than of an infinitely deep one
_CHUNK = 1.0  # what a chunk costs


@dataclass(frozen=True, kw_only=True)
class CodeChunker:
    """Cuts between definitions.

    Attributes:
        counter: Counts the tokens.
        size: Most tokens of a chunk.
        overlap: Tokens of the chunk before that a chunk repeats, at most; in [0, size).
        fill: Share of `size` that a part of something too long has at least, if it can be, in
            [0, 1].
    """

    counter: TokenCounter
    size: int = 140
    overlap: int = 0
    fill: float = 0.5

    def __post_init__(self) -> None:
        check_sizes(self.size, self.overlap)
        check_ratio("fill", self.fill)

    def split(self, document: Document, query: Query | None = None) -> list[Span]:
        """Spans of the chunks; see `Chunker`."""
        ruler, room = Ruler(document, self.counter, self.size), self.size - self.overlap
        places = list(places_of(document))
        cutter = _Cutter(ruler, document, places, room, self.fill)
        code = [block.start for block in document.blocks if block.kind in CODE_KINDS]
        spans: list[Span] = []
        for section in sections(places, Span(0, len(document.text))):
            first = bisect.bisect_left(code, section.start)
            if first < len(code) and code[first] < section.end:
                spans += cutter.chunks(section)
            else:
                spans += packed(ruler, places, [section], room, self.fill)
        return add_overlap(ruler, spans, self.overlap)


class _Piece(NamedTuple):
    """A span, and what a cut before it is worth."""

    span: Span
    worth: float


class _Cutter:
    """Cuts sections of one document that hold code."""

    def __init__(
        self,
        ruler: Ruler,
        document: Document,
        places: Sequence[Place],
        room: int,
        fill: float,
    ) -> None:
        self._ruler, self._blocks, self._room, self._fill = ruler, document.blocks, room, fill
        self._starts = [block.start for block in document.blocks]
        self._strengths = {place.at: place.strength for place in places}
        self._in_text = strongest(
            [place for place in places if place.strength != NEVER], breaks_of(document.text)
        )
        self._in_code = _at_lines(document.text)

    def chunks(self, section: Span) -> list[Span]:
        """Few chunks that begin where it is best to cut."""
        pieces = list(self._pieces(section))
        spans = [piece.span for piece in pieces]
        runs = best_runs(self._ruler, spans, self._room, lambda i, _: pieces[i].worth - _CHUNK)
        return merge(self._ruler, spans, runs, self._room)

    def _pieces(self, section: Span) -> Iterator[_Piece]:
        """Blocks, those that are too long cut; text between blocks goes with the one before."""
        first = bisect.bisect_left(self._starts, section.start)
        last = bisect.bisect_left(self._starts, section.end)
        edges = [section.start, *self._starts[first:last], section.end]
        blocks: list[Block | None] = [None, *self._blocks[first:last]]
        for block, unit in zip(blocks, itertools.pairwise(edges), strict=True):
            is_code = block is not None and block.kind in CODE_KINDS
            choose = self._in_code if is_code else self._in_text
            worth = self._worth(block)
            for span in pack(self._ruler, Span(*unit), self._room, choose=choose, fill=self._fill):
                yield _Piece(span, worth)
                worth = 0.0

    def _worth(self, block: Block | None) -> float:
        """What a cut before a block is worth."""
        if block is None:
            return 0.0
        worth = _WORTH[self._strengths.get(block.start, BLOCK)]
        if block.kind == "definition" and worth > 0:
            worth += _DEFINITION / (1 + max(1, block.level))
        return worth


def _at_lines(text: str) -> Choose:
    """Choose the best line to begin with; before `low` only if no line begins after."""
    otherwise = breaks_of(text)

    def choose(start: int, low: int, reach: int) -> int:
        found = list(line_places(text, start, reach))
        near = [place for place in found if place.at >= low] or found
        return max(near).at if near else otherwise(start, low, reach)

    return choose
