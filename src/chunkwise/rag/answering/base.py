"""The answerer protocol, and citations from spans of a hit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from chunkwise.registry import Registry
from chunkwise.types import Answer, Citation, Hit, Query

NOT_FOUND_TEXT = "Not found in these documents."
"""What an answer says when the documents do not answer the question."""


class Answerer(Protocol):
    """Answers a query from hits. Built with the parts it declares (`segmenter`, `model` ...)."""

    def stream(self, query: Query, hits: Sequence[Hit]) -> Iterator[str | Answer]:
        """Pieces of the answer's text as they come, and last the whole `Answer`.

        Only the final `Answer` is binding: labels in it are resolved and checked.
        """
        ...


def citation(hit: Hit, start: int, end: int) -> Citation:
    """Characters `start` to `end` of a hit's chunk, as a place in its document.

    The page is given when the chunk stands on one page; a chunk over several pages does not
    know on which of them its characters are.
    """
    pages = hit.chunk.pages
    page = pages[0] if pages is not None and pages[0] == pages[1] else None
    first = hit.chunk.span.start
    text = hit.chunk.text[start:end]
    return Citation(hit.document, first + start, first + end, text, page, hit.version)


answerers: Registry[Answerer] = Registry(
    "chunkwise.rag.answering",
    shared=("base", "evidence", "matching", "network", "reading", "spans", "support", "units"),
)
