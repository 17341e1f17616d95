"""The enricher protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from chunkwise.errors import ConfigError
from chunkwise.registry import Registry
from chunkwise.types import Chunk, Document, TokenCounter


class Enricher(Protocol):
    """Says of chunks what their text alone does not say, or not shortly.

    An implementation is a frozen dataclass; whoever builds it offers the fields below, `segmenter`
    and `model`, and it declares those it uses.

    Attributes:
        separator: Stands between the values of a chunk where they are embedded.
    """

    separator: ClassVar[str]

    @property
    def counter(self) -> TokenCounter:
        """Counts the tokens."""
        ...

    @property
    def max_tokens(self) -> int:
        """Most tokens of what is said of a chunk; 0: nothing is."""
        ...

    def enrich(
        self, document: Document, chunks: Sequence[Chunk], rooms: Sequence[int]
    ) -> list[tuple[str, ...]]:
        """Values for each chunk, the most telling first; none where there is nothing to say.

        Args:
            document: Where the chunks stand.
            chunks: All chunks of the document, in order.
            rooms: For each chunk the most tokens of its values, joined by `separator`;
                `max_tokens` holds besides.
        """
        ...


enrichers: Registry[Enricher] = Registry("chunkwise.rag.enrichment")


def fitted(values: Sequence[str], enricher: Enricher, room: int) -> tuple[str, ...]:
    """The first values that fit into `room` and `max_tokens`, joined; longer ones are left out."""
    most = min(room, enricher.max_tokens)
    kept: tuple[str, ...] = ()
    for value in values if most > 0 else ():
        longer = (*kept, value)
        if enricher.counter.count(enricher.separator.join(longer)) <= most:
            kept = longer
    return kept


def check_least(name: str, value: int, least: int) -> None:
    """Refuse an option that is no whole number of at least `least`."""
    if type(value) is not int or value < least:
        raise ConfigError(f"`{name}` must be a whole number, at least {least}, got {value!r}.")
