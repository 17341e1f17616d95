"""Boundaries of a document's structure, and the choice of the strongest: shared by chunkers."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chunkwise.rag.chunking.pieces import Choose, Ruler, breaks_of, pack
from chunkwise.types import Block, Document, Span

SECTION, KIND, PAGE, BLOCK, ITEM, NEVER = 5, 4, 3, 2, 1, 0
"""How well one can cut: a section, blocks of different kinds, a page, blocks of one kind, rows of a
table and items of a list, and behind a heading."""


class Place(NamedTuple):
    """A place between blocks, rows or items, and how well one can cut there."""

    at: int
    strength: int


def places_of(document: Document) -> Iterator[Place]:
    """Places between blocks, rows and items, in order."""
    pages = {page.start for page in document.pages}
    before: Block | None = None
    for block in document.blocks:
        if before is not None:
            yield Place(block.start, _strength(document.text, before, block, pages))
        elif document.text[: block.start].strip():
            yield Place(block.start, SECTION if block.kind == "heading" else BLOCK)
        for row in block.rows[block.header_rows + 1 if block.header_rows else 1 :]:
            yield Place(row.start, ITEM)
        before = block


def sections(places: Sequence[Place], region: Span) -> Iterator[Span]:
    """The region's parts between the places where a section begins."""
    near = _within(places, region)
    inside = (p.at for p in near if p.strength == SECTION and p.at < region.end)
    for start, end in itertools.pairwise([region.start, *inside, region.end]):
        yield Span(start, end)


def packed(
    ruler: Ruler, places: Sequence[Place], parts: Sequence[Span], room: int, fill: float
) -> list[Span]:
    """Chunks of parts of a text, each cut at its strongest places near the limit.

    Args:
        ruler: Measures the text.
        places: Where it may be cut, in order.
        parts: What to cut, each by itself, in order.
        room: Most tokens of a chunk.
        fill: Share of `room` below which a chunk ends only if no place lies further on.
    """
    near = _within(places, Span(parts[0].start, parts[-1].end)) if parts else ()
    choose = strongest([p for p in near if p.strength != NEVER], breaks_of(ruler.text))
    return [span for part in parts for span in pack(ruler, part, room, choose=choose, fill=fill)]


def strongest(places: Sequence[Place], otherwise: Choose) -> Choose:
    """Choose the strongest and then last place in reach; before `low` only if none is after."""
    starts = [place.at for place in places]

    def choose(start: int, low: int, reach: int) -> int:
        first = bisect.bisect_right(starts, start)
        middle = max(first, bisect.bisect_left(starts, low))
        last = bisect.bisect_right(starts, reach)
        near = places[middle:last] or places[first:middle]
        if not near:
            return otherwise(start, low, reach)
        return max(near, key=lambda place: (place.strength, place.at)).at

    return choose


def _within(places: Sequence[Place], region: Span) -> Sequence[Place]:
    """Those of the places, which are in order, behind the region's start, up to its end."""
    first = bisect.bisect_right(places, region.start, key=lambda place: place.at)
    return places[first : bisect.bisect_right(places, region.end, key=lambda place: place.at)]


def _strength(text: str, before: Block, block: Block, pages: set[int]) -> int:
    if before.kind == "heading":
        return NEVER
    if block.kind == "heading":
        return SECTION
    if block.start in pages:
        return PAGE
    if block.kind == "list_item":
        is_within = before.kind == "list_item" or text[before.start : before.end].endswith(":")
        return ITEM if is_within else BLOCK
    return KIND if block.kind != before.kind or block.kind == "definition" else BLOCK
