"""The retriever protocol, and what retrievers need of a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from chunkwise.registry import Registry
from chunkwise.types import Chunk, Filter, Hit, Query, Span

T = TypeVar("T")


class Retriever(Protocol):
    """Finds chunks. Built with `store` (a `ChunkSource`) and, if it declares one, `embedder`."""

    def search(self, query: Query, k: int) -> list[Hit]:
        """At most `k` hits, best first, one a content; the filter is applied before ranking."""
        ...


class Cut(Protocol):
    """Chunks of any spans of a stored document, with headings, table header and pages of there."""

    def __call__(
        self, document: str, version: int, spans: Sequence[Span]
    ) -> Sequence[Chunk] | None:
        """A chunk for each span, in order; None: that version is not stored any more."""
        ...


class ChunkSource(Protocol):
    """What retrievers need of a store. Documents and contents are known by whole numbers."""

    def read(self, work: Callable[[], T]) -> T:
        """The result of `work`, whose calls see one view of the corpus; it may be called again."""
        ...

    def allowed(self, filter: Filter) -> list[int] | None:
        """Documents that a filter lets through; None: all."""
        ...

    def terms(self, text: str) -> Sequence[tuple[str, bool]]:
        """What a question looks up in the word index: (text, whether it is a beginning)."""
        ...

    def num_contents(self) -> int:
        """Texts in the word index."""
        ...

    def match_count(self, expression: str) -> int:
        """Texts that match an expression of the word index."""
        ...

    def match(
        self, expression: str, limit: int, documents: Sequence[int] | None = None
    ) -> list[tuple[int, float]]:
        """(content, BM25 score) of texts that match, best first."""
        ...

    def matrices(self, fingerprint: str) -> Sequence[tuple[int, Path, NDArray[np.float32]]]:
        """(number, file, rows of unit vectors) for each vector file; rows may be dead.

        Raises:
            IndexMismatchError: Not all chunks have a vector of that embedder.
        """
        ...

    def vector_rows(self, segment: int, documents: Sequence[int]) -> NDArray[np.int64]:
        """Rows of a vector file that belong to some documents."""
        ...

    def owners(
        self, segment: int, rows: Sequence[int], documents: Sequence[int] | None = None
    ) -> list[tuple[int, int, int]]:
        """(row, content, form) of rows; dead rows and other documents are left out."""
        ...

    def hits(
        self,
        scores: Mapping[int, float],
        stage: str,
        documents: Sequence[int] | None = None,
        *,
        forms: Mapping[int, int] | None = None,
    ) -> list[Hit]:
        """A hit for each content, best first, ties by content id."""
        ...


retrievers: Registry[Retriever] = Registry(
    "chunkwise.rag.retrieval",
    shared=("base", "fusion", "ann", "narrowing", "pointing"),
)
