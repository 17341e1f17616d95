"""Hits of which only a part counts: the part as a chunk of its own, and parts that overlap."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from chunkwise.rag.retrieval.base import Cut
from chunkwise.types import Chunk, Hit, Span, TokenCounter, content_id

_NOT_STORED = -1


def narrowed(hit: Hit, span: Span, counter: TokenCounter) -> Hit:
    """A hit whose chunk is a part of the given one's; `content` is -1, as no store has it. Pages
    stay the whole's, and so do headings and table header, until `placed` looks them up.

    Args:
        hit: The whole; its copies have equal text, so the part is at the same place in them.
        span: The part, in characters of the document, within the chunk.
        counter: Counts the part's tokens.
    """
    whole = hit.chunk.span
    if span == whole:
        return hit
    low, size = span.start - whole.start, span.end - span.start
    copies = [(name, Span(at.start + low, at.start + low + size)) for name, at in hit.copies]
    chunk = _cut(hit.chunk, hit.chunk.text[low : low + size], span, counter)
    return dataclasses.replace(hit, chunk=chunk, copies=tuple(copies), content=_NOT_STORED)


def merged(hits: Iterable[Hit], counter: TokenCounter) -> list[Hit]:
    """Hits of which no two overlap in a document and none have equal text, best first, ties by
    content id. What was several has the best one's scores and headings."""
    joined: list[Hit] = []
    for hit in sorted(hits, key=lambda hit: (hit.document, hit.version, hit.chunk.span)):
        if joined and _overlap(joined[-1], hit):
            joined[-1] = _union(joined[-1], hit, counter)
        else:
            joined.append(hit)
    alike: dict[str, list[Hit]] = {}
    for hit in sorted(joined, key=lambda hit: -hit.score):
        alike.setdefault(hit.chunk.id, []).append(hit)
    found = [_with_copies(best, more) for best, *more in alike.values()]
    return sorted(found, key=lambda hit: (-hit.score, hit.chunk.id))


def placed(hits: Sequence[Hit], cut: Cut) -> list[Hit]:
    """The hits; chunks that no store has with headings, table header and pages of their place. If
    their document is not stored any more, they stay as they are."""
    wanted: dict[tuple[str, int], list[int]] = {}
    for at, hit in enumerate(hits):
        if hit.content == _NOT_STORED:
            wanted.setdefault((hit.document, hit.version), []).append(at)
    found = list(hits)
    for (document, version), places in wanted.items():
        chunks = cut(document, version, [hits[at].chunk.span for at in places])
        for at, chunk in zip(places, chunks or (), strict=chunks is not None):
            found[at] = dataclasses.replace(hits[at], chunk=chunk)
    return found


def _cut(chunk: Chunk, text: str, span: Span, counter: TokenCounter) -> Chunk:
    return dataclasses.replace(
        chunk, id=content_id(text), text=text, span=span, tokens=counter.count(text)
    )


def _overlap(first: Hit, second: Hit) -> bool:
    is_same = (first.document, first.version) == (second.document, second.version)
    return is_same and second.chunk.span.start < first.chunk.span.end


def _union(first: Hit, second: Hit, counter: TokenCounter) -> Hit:
    """Two hits that overlap as one; the first does not start behind the second."""
    best = max(first, second, key=lambda hit: hit.score)
    low, high = first.chunk, second.chunk
    if high.span.end <= low.span.end:
        text, copies, content = low.text, first.copies, first.content
    else:
        text, copies = low.text + high.text[low.span.end - high.span.start :], ()
        copies, content = (), _NOT_STORED
        if high.span.start == low.span.start:
            copies, content = second.copies, second.content
    span = Span(low.span.start, max(low.span.end, high.span.end))
    ends = [page for pages in (low.pages, high.pages) if pages for page in pages]
    chunk = dataclasses.replace(best.chunk, pages=(min(ends), max(ends)) if ends else None)
    chunk = _cut(chunk, text, span, counter)
    return dataclasses.replace(best, chunk=chunk, copies=copies, content=content)


def _with_copies(hit: Hit, others: Sequence[Hit]) -> Hit:
    """A hit, and where else its text was found."""
    places = list(hit.copies)
    for other in others:
        places += [(other.document, other.chunk.span), *other.copies]
    own = hit.document, hit.chunk.span
    distinct = tuple(place for place in dict.fromkeys(places) if place != own)
    return dataclasses.replace(hit, copies=distinct)
