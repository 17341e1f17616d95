"""The title of the document that a chunk stands in.

Source: the title in front of each passage, as in Karpukhin et al., DPR (arXiv 2004.04906).
Differs: it is left out where the chunk's own headings begin with it, so that `headings` and this
one together do not say it twice.
Exact when: `max_tokens` is 0: texts are embedded alone.
Cost: none but the tokens.
Helps or hurts: not measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from chunkwise.rag.enrichment.base import check_least, fitted
from chunkwise.types import Chunk, Document, TokenCounter

__all__ = ["TitleEnricher"]


@dataclass(frozen=True, kw_only=True)
class TitleEnricher:
    """The document's own title, where it has one.

    Attributes:
        counter: Counts the tokens.
        max_tokens: Most tokens; a longer title is left out.
    """

    counter: TokenCounter
    max_tokens: int = 32
    separator: ClassVar[str] = " "

    def __post_init__(self) -> None:
        check_least("max_tokens", self.max_tokens, 0)

    def enrich(
        self, document: Document, chunks: Sequence[Chunk], rooms: Sequence[int]
    ) -> list[tuple[str, ...]]:
        """See `Enricher`."""
        title = " ".join(document.title.split())
        return [
            fitted([title] if title and title not in chunk.headings[:1] else [], self, room)
            for chunk, room in zip(chunks, rooms, strict=True)
        ]
