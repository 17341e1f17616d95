"""Chunks of spans that are no chunks of the store: what stands above them is looked up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chunkwise.rag.chunking import cut_few
from chunkwise.store import Store
from chunkwise.types import Chunk, Document, Span, TokenCounter


@dataclass(frozen=True)
class StoreCut:
    """A `Cut` of the documents of a store.

    Attributes:
        store: Holds them.
        counter: Counts the chunks' tokens.
        size: Most tokens of a chunk and its repeated table header together.
    """

    store: Store
    counter: TokenCounter
    size: int

    def __call__(
        self, document: str, version: int, spans: Sequence[Span]
    ) -> Sequence[Chunk] | None:
        """See `Cut`.

        Raises:
            StoreError: The document is damaged.
        """
        found = self.store.read(lambda: self._load(document, version))
        return cut_few(found, spans, self.counter, size=self.size) if found else None

    def _load(self, name: str, version: int) -> Document | None:
        info = self.store.info(name)
        return self.store.load(name) if info and info.version == version else None
