"""What is embedded for the chunks of a document: their texts, enriched, and their surroundings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from chunkwise.rag.enrichment import Enricher
from chunkwise.rag.enrichment.headings import HeadingsEnricher
from chunkwise.rag.situating import Form, Situator
from chunkwise.rag.situating.none import NoSituator
from chunkwise.store import Prepared
from chunkwise.types import Chunk, Document, Embedder, TokenCounter

Enrichment = Mapping[str, tuple[str, ...]]
"""What each enricher says of a chunk, by the enricher's name."""


@dataclass(frozen=True, slots=True)
class Embeddable(Prepared):
    """A document ready to be embedded and stored.

    Attributes:
        forms: For each chunk what its vector is made from; empty: none are made.
    """

    forms: Sequence[Form] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class Forms:
    """Makes the forms of chunks, and vectors of forms.

    Attributes:
        counter: Counts the tokens.
        enrichers: What is said before texts, by name, in this order.
        situator: How vectors depend on surroundings.
    """

    counter: TokenCounter
    enrichers: Mapping[str, Enricher]
    situator: Situator

    @classmethod
    def by_default(cls, counter: TokenCounter, embedder: Embedder) -> Forms:
        """Texts behind their headings, each by itself."""
        return cls(
            counter, {"headings": HeadingsEnricher(counter=counter)}, NoSituator(embedder=embedder)
        )

    def of(self, document: Document, chunks: Sequence[Chunk]) -> list[Form]:
        """The form of each chunk of a document."""
        said = self.enrichments(document, chunks)
        texts = [self._enriched(*pair) for pair in zip(chunks, said, strict=True)]
        return self.situator.forms(document, chunks, texts)

    def vectors(self, forms: Sequence[Form]) -> dict[str, NDArray[np.float32]]:
        """Vectors of forms, by their keys."""
        found = {form.key: form for form in forms}
        if not found:
            return {}
        return dict(zip(found, self.situator.embed(list(found.values())), strict=True))

    def enrichments(self, document: Document, chunks: Sequence[Chunk]) -> Sequence[Enrichment]:
        """What is said before the text of each chunk of a document."""
        said: list[dict[str, tuple[str, ...]]] = [{} for _ in chunks]
        rooms = [self._room(chunk) for chunk in chunks]
        for name, enricher in self.enrichers.items():
            values = enricher.enrich(document, chunks, rooms)
            for at, some in enumerate(values):
                if some:
                    said[at][name] = some
                    rooms[at] -= self.counter.count(enricher.separator.join(some)) + 1
        return said

    def _room(self, chunk: Chunk) -> int:
        """Tokens that the embedder takes beside a text: a text that it takes whole stays whole."""
        most = self.situator.embedder.max_tokens
        return most - chunk.tokens - 1 if chunk.tokens <= most else most

    def _enriched(self, chunk: Chunk, said: Enrichment) -> str:
        lines = [self.enrichers[name].separator.join(values) for name, values in said.items()]
        return "\n".join([*lines, chunk.text])
