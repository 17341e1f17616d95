"""The answerer protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from chunkwise.registry import Registry
from chunkwise.types import Answer, Hit, Query


class Answerer(Protocol):
    """Answers a query from hits. Built with the parts it declares (`segmenter`, `model` ...)."""

    def stream(self, query: Query, hits: Sequence[Hit]) -> Iterator[str | Answer]:
        """Pieces of the answer's text as they come, and last the whole `Answer`.

        Only the final `Answer` is binding: labels in it are resolved and checked.
        """
        ...


answerers: Registry[Answerer] = Registry("chunkwise.rag.answering")
