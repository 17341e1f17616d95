"""Documents to learn sections from, as units with the gaps at which one ends.

Of a data folder that has `text/peps_rst.jsonl.gz` or `text/rust_book_md.jsonl.gz`, these; of any
other folder, all files in it that a parser takes. Headings tell where sections end and are left
out themselves. Documents are put into a part by the hash of their text.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import DocumentError, TrainingDataError
from chunkwise.evaluation.rows import read_lines
from chunkwise.rag.chunking.sections import Unit, embedded, layout_features, paragraphs
from chunkwise.rag.parsing import parse
from chunkwise.rag.parsing.files import Skipped, walk
from chunkwise.training.base import Source
from chunkwise.types import Document, Segmenter, Span

Part = Literal["train", "valid", "test"]

_log = logging.getLogger(__name__)
_FEWEST = 5  # documents
_SHARE = 10  # one in so many is held out for fitting the threshold, and one for figures
_UNKNOWN = "as its owner gives it"


class _Collection(NamedTuple):
    """A file of documents that is known: the key of their text, how it is parsed, its licence."""

    key: str
    suffix: str
    licence: str


_COLLECTIONS: Mapping[str, _Collection] = {
    "text/peps_rst.jsonl.gz": _Collection("rst", ".rst", "public domain or CC0-1.0"),
    "text/rust_book_md.jsonl.gz": _Collection("markdown", ".md", "MIT or Apache-2.0"),
}


@dataclass(frozen=True)
class Sections:
    """A document as its units.

    Attributes:
        part: What it is for.
        texts: Of the units, at least two.
        ends: Whether a section ends behind each but the last: `(n - 1,)`.
        layout: Of the gaps; see `chunking.sections`.
    """

    part: Part
    texts: Sequence[str]
    ends: NDArray[np.bool_]
    layout: NDArray[np.float32]


@dataclass(frozen=True)
class Corpus:
    """All that is read.

    Attributes:
        documents: Those with two units or more.
        sources: The files learnt from.
        hashes: SHA-256 of all files by name.
    """

    documents: Sequence[Sections]
    sources: Sequence[Source]
    hashes: Mapping[str, str]

    def of(self, part: Part) -> list[int]:
        """Numbers of the documents of a part."""
        return [i for i, document in enumerate(self.documents) if document.part == part]


def read_corpus(data: Path, unit: Unit, segmenter: Segmenter, most: int) -> Corpus:
    """Documents of a folder.

    Args:
        data: The folder.
        unit: What sections are made of; of sentences, paragraphs are the sections.
        segmenter: Finds sentences.
        most: Most documents; 0: all.

    Raises:
        TrainingDataError: There is no such folder, or too few documents with sections are in it.
    """
    if not data.is_dir():
        raise TrainingDataError(f"{str(data)!r}: no such data folder; name it with --data.")
    found: dict[str, tuple[str, Sections]] = {}
    hashes: dict[str, str] = {}
    licences: dict[str, _Collection | None] = {}
    for file, raw_hash, collection, document in _read(data):
        hashes[file], licences[file] = raw_hash, collection
        key = hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).hexdigest()
        made = _sections(document, unit, segmenter)
        if made is not None:
            found.setdefault(key, (file, made))
    chosen = sorted(found)[: most or None]
    documents = [_in_part(found[key][1], at, len(chosen)) for at, key in enumerate(chosen)]
    _check(data, documents)
    counts = {file: sum(found[key][0] == file for key in chosen) for file in hashes}
    sources = [
        Source(
            file,
            hashes[file],
            collection.licence if (collection := licences[file]) else _UNKNOWN,
            collection is not None,
            count,
        )
        for file, count in counts.items()
        if count
    ]
    return Corpus(documents, sources, hashes)


def _read(data: Path) -> Iterator[tuple[str, str, _Collection | None, Document]]:
    """Each document with its file, the file's hash, and the collection it is of."""
    known = {name: each for name, each in _COLLECTIONS.items() if (data / name).is_file()}
    for name, collection in known.items():
        raw_hash = hashlib.sha256((data / name).read_bytes()).hexdigest()
        for number, line in enumerate(read_lines(data / name)):
            text = line.text(collection.key)
            document = parse(text.encode(), name=f"{number}{collection.suffix}")
            yield name, raw_hash, collection, document
    if known:
        return
    for job in walk([data], root=data):
        if isinstance(job, Skipped):
            _log.log(logging.DEBUG if job.is_unsupported else logging.WARNING, "%s", job.error)
            continue
        try:
            raw = Path(job.path).read_bytes()
            document = parse(raw, name=job.name)
        except (DocumentError, OSError) as exc:
            _log.warning("Left out: %s", exc)
            continue
        yield job.name, hashlib.sha256(raw).hexdigest(), None, document


def _sections(document: Document, unit: Unit, segmenter: Segmenter) -> Sections | None:
    """The document as units; None if there are not two."""
    units = paragraphs(document)
    ends = _ends(document, units)
    if unit == "sentence":
        units, ends = _sentences(document.text, units, segmenter)
    if len(units) < 2:
        return None
    texts = [embedded(document.text[a:b]) for a, b in units]
    return Sections("train", texts, np.array(ends[:-1]), layout_features(document.text, units))


def _ends(document: Document, units: Sequence[Span]) -> list[bool]:
    """Whether a heading stands behind each unit and before the next one."""
    heads = np.array([b.start for b in document.blocks if b.kind == "heading"])
    counts = np.searchsorted(heads, [span.start for span in units])
    return [*(np.diff(counts) > 0).tolist(), True]


def _sentences(
    text: str, units: Sequence[Span], segmenter: Segmenter
) -> tuple[list[Span], list[bool]]:
    """Sentences of the units, and which ones end one."""
    spans: list[Span] = []
    ends: list[bool] = []
    for start, end in units:
        found = segmenter.split(text[start:end])
        spans += [Span(start + a, start + b) for a, b in found]
        ends += [False] * (len(found) - 1) + [True] * bool(found)
    return spans, ends


def _in_part(document: Sections, at: int, n: int) -> Sections:
    """The document in its part: the first ones are held out."""
    held = max(1, n // _SHARE)
    part: Part = "test" if at < held else "valid" if at < 2 * held else "train"
    return Sections(part, document.texts, document.ends, document.layout)


def _check(data: Path, documents: Sequence[Sections]) -> None:
    if len(documents) < _FEWEST:
        raise TrainingDataError(
            f"{str(data)!r} holds {len(documents)} documents of two paragraphs or more, {_FEWEST} "
            "are needed: name a folder of documents with --data."
        )
    for part in ("train", "valid", "test"):
        ends = [document.ends for document in documents if document.part == part]
        if len(np.unique(np.concatenate(ends))) < 2:
            raise TrainingDataError(
                f"{str(data)!r}: in the {part} documents no section ends, or one ends behind every "
                "paragraph: more documents with headings are needed."
            )
