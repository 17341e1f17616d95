"""Small documents for tests of the store: a chunk a line, no parsers, no chunkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chunkwise.rag.embedding.hashing import HashingEmbedder
from chunkwise.store import Changes, Prepared, Store
from chunkwise.types import Chunk, Document, Span, content_id

EMBEDDER = HashingEmbedder(dim=32)


def prepared(name: str, lines: Sequence[str], **metadata: str) -> Prepared:
    """A document with a chunk for each line."""
    text = "\n".join(lines)
    chunks, start = [], 0
    for line in lines:
        span = Span(start, start + len(line))
        chunks.append(Chunk(content_id(line), line, span, max(1, len(line.split()))))
        start = span.end + 1
    document = Document(name, text, metadata=metadata)
    return Prepared(document, chunks, [content_id(line) for line in lines], {"parse": "1"})


def vectors_of(
    batch: Sequence[Prepared], embedder: HashingEmbedder = EMBEDDER
) -> Mapping[str, NDArray[np.float32]]:
    """The vector of every embedded text of a batch."""
    texts = {chunk.id: chunk.text for item in batch for chunk in item.chunks}
    return dict(zip(texts, embedder.embed(list(texts.values())), strict=True))


def put(store: Store, *batch: Prepared, embedder: HashingEmbedder = EMBEDDER) -> Changes:
    """Store documents with their vectors."""
    return store.replace(batch, vectors_of(batch, embedder), fingerprint=embedder.fingerprint)


def create(folder: Path, *batch: Prepared) -> Store:
    """A new corpus with some documents."""
    store = Store.open(folder, create=True)
    if batch:
        put(store, *batch)
    return store
