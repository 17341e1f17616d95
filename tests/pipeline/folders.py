"""Folders of small files for tests of ingest, and parsers without processes."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from chunkwise.pipeline.ingest import Ingest
from chunkwise.rag.chunking import chunkers
from chunkwise.rag.counting import named_counter
from chunkwise.rag.embedding.hashing import HashingEmbedder
from chunkwise.rag.parsing.worker import Job, Parsed
from chunkwise.store import Store
from chunkwise.types import Document

WORDS = [
    "ferry",
    "harbour",
    "ticket",
    "child",
    "adult",
    "engine",
    "valve",
    "fuel",
    "winter",
    "crew",
]
RECIPE = {"parse": "1", "chunk": "1", "embed": "1"}


class SerialParsers:
    """Stands in for a `ParserPool`: plain text, read in this process, with a record of it."""

    def __init__(self) -> None:
        self.parsed: list[str] = []
        self.read: list[str] = []

    def __call__(self) -> Any:
        return self

    def __enter__(self) -> SerialParsers:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def parse_all(self, jobs: Iterable[Job], *, known: Mapping[str, str]) -> Iterator[Parsed]:
        for job in jobs:
            self.read.append(job.name)
            path = Path(job.path)
            data, status = path.read_bytes(), path.stat()
            digest = hashlib.blake2b(data, digest_size=16).hexdigest()
            same = known.get(job.name) == digest
            document, error = None, None
            if data.startswith(b"BAD"):
                error = "is bad"
            elif not same:
                self.parsed.append(job.name)
                document = Document(job.name, data.decode(errors="surrogatepass"))
            yield Parsed(
                job.name,
                job.path,
                document,
                error,
                digest,
                status.st_size,
                status.st_mtime_ns,
                unchanged=same,
            )


class CountingEmbedder(HashingEmbedder):
    """Counts the texts that it embeds."""

    def embed(self, texts: Any, kind: Any = "passage") -> Any:
        self.__dict__["count"] = self.count + len(texts)
        return super().embed(texts, kind)

    @property
    def count(self) -> int:
        """Texts embedded so far."""
        return int(self.__dict__.get("count", 0))


def write_folder(folder: Path, number: int, *, seed: int = 0, paragraphs: int = 6) -> None:
    """Text files of a few paragraphs each; some paragraphs stand in several files."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(number):
        rng = random.Random(f"{seed} {n}")
        parts = [" ".join(rng.choices(WORDS, k=12)) + f" {n}." for _ in range(paragraphs)]
        parts[0] = "Notice to all passengers: the usual conditions apply."
        (folder / f"doc{n:03d}.txt").write_text("\n\n".join(parts), encoding="utf-8")


def age(folder: Path) -> None:
    """Make files look old, so that their time stamps are relied on."""
    import os

    old = time.time_ns() - 10**11
    for path in folder.rglob("*"):
        os.utime(path, ns=(old, old))


def make_ingest(store: Store, root: Path, **changes: Any) -> Ingest:
    """An ingest without processes; keyword arguments replace its parts."""
    counter = named_counter("words")
    parts: dict[str, Any] = {
        "chunker": chunkers.build("recursive", size=20, counter=counter),
        "counter": counter,
        "embedder": CountingEmbedder(dim=32),
        "recipe": RECIPE,
        "root": root,
        "parsers": SerialParsers(),
    }
    return Ingest(store, **{**parts, **changes})
