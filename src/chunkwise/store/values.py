"""What goes into a store and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkwise.types import Chunk, Document


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """A document of the corpus without its text.

    Attributes:
        name: What it is called.
        version: From 1; raised when the parsed text or structure changes.
        chunks: How many it was cut into.
        size_bytes: Size of the source.
        mtime_ns: When the source was last changed; 0 when that is too fresh to be relied on.
        source_hash: BLAKE2b-128 of the source's bytes, in hex.
        recipe: One fingerprint a stage: what parsed, cut and embedded it.
        title: Its own title, or empty.
        metadata: What the source says of itself.
        added_at: When this version was stored: ISO 8601, UTC.
    """

    name: str
    version: int
    chunks: int
    size_bytes: int
    mtime_ns: int
    source_hash: str
    recipe: Mapping[str, str]
    title: str
    metadata: Mapping[str, str]
    added_at: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document ready to be stored.

    Attributes:
        document: As parsed.
        chunks: In document order.
        embed_ids: For each chunk the content id of what is embedded for it; empty: none is.
        recipe: One fingerprint a stage.
        source_hash: BLAKE2b-128 of the source's bytes, in hex.
        size_bytes: Size of the source.
        mtime_ns: When the source was last changed; 0: unknown.
    """

    document: Document
    chunks: Sequence[Chunk]
    embed_ids: Sequence[str] = ()
    recipe: Mapping[str, str] = field(default_factory=dict)
    source_hash: str = ""
    size_bytes: int = 0
    mtime_ns: int = 0

    def __post_init__(self) -> None:
        assert len(self.embed_ids) in (0, len(self.chunks)), "one embed id a chunk, or none"


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of chunks, counted as they stand in documents."""

    kept: int = 0
    new: int = 0
    removed: int = 0

    def __add__(self, other: Changes) -> Changes:
        return Changes(self.kept + other.kept, self.new + other.new, self.removed + other.removed)


@dataclass(frozen=True, slots=True)
class Stats:
    """How much there is of what.

    Attributes:
        documents: Documents.
        chunks: Chunks as they stand in documents, copies counted.
        contents: Distinct texts of chunks.
        vectors: Vectors in use.
        dead_vectors: Rows of vector files that nothing uses; `compact` drops them.
        database_bytes: Size of the database: documents, chunks, postings.
        log_bytes: Size of the database's write-ahead log.
        vector_bytes: Size of the vector files.
    """

    documents: int
    chunks: int
    contents: int
    vectors: int
    dead_vectors: int
    database_bytes: int
    log_bytes: int
    vector_bytes: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the corpus on disk.

    Attributes:
        part: `database`, `postings`, `chunks`, `documents` or `vectors`.
        message: What is wrong, with names and numbers.
        remedy: What puts it right.
    """

    part: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.part}: {self.message} Remedy: {self.remedy}"


class Matrix(NamedTuple):
    """Vectors of one file, `(rows, dim)` float32, read-only; rows may be dead.

    The array stays valid, also after the file was removed or has grown.
    """

    segment: int
    path: Path
    array: NDArray[np.float32]


class Term(NamedTuple):
    """A word to look up: whole, or as the beginning of words."""

    text: str
    is_prefix: bool = False
