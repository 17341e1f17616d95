"""What a run over documents says of itself: how far it is, and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field

from chunkwise.store import Changes


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        done: Documents dealt with.
        total: Documents there are.
        name: The last one.
    """

    done: int
    total: int
    name: str


@dataclass(slots=True)
class IngestReport:
    """What a run did.

    Attributes:
        added: Documents that are new.
        updated: Documents that were stored anew.
        unchanged: Documents that were as they are.
        removed: Documents whose files are gone.
        skipped: Names and reasons of files met in folders that no parser takes.
        failed: Names and reasons of those that could not be read; what was stored of them stays.
        warnings: What could not be read inside of documents.
        chunks: What became of the chunks of the documents that were stored or removed.
        embedded: Texts that were embedded.
        seconds: Time by stage: `parse` (waiting for parsers), `cut`, `embed`, `store`, `total`.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    chunks: Changes = field(default_factory=Changes)
    embedded: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
