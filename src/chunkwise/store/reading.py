"""What readers ask: documents by filter, matches of words, vectors, and hits with their places."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import IndexMismatchError
from chunkwise.store.values import DocumentInfo, Matrix
from chunkwise.store.vectors import VectorFiles
from chunkwise.types import Chunk, Filter, Hit, Span

MAX_COPIES = 100
"""Other places of a text that a hit lists at most."""

_INFO = (
    "name, version, chunks, size_bytes, mtime_ns, source_hash, recipe, title, metadata, added_at"
)
_CHUNK = (
    "lower(hex(content.key)), content.text, occurrence.first, occurrence.last, "
    "occurrence.tokens, occurrence.context, occurrence.first_page, occurrence.last_page"
)


def infos(connection: sqlite3.Connection, filter: Filter) -> Iterator[DocumentInfo]:
    """Documents that a filter lets through, by name."""
    for row in connection.execute(f"SELECT {_INFO} FROM document ORDER BY name"):
        info = _info(row)
        if lets_through(filter, info.name, info.metadata):
            yield info


def info(connection: sqlite3.Connection, name: str) -> DocumentInfo | None:
    """One document, or None."""
    found = connection.execute(f"SELECT {_INFO} FROM document WHERE name = ?", (name,))
    row = found.fetchone()
    return None if row is None else _info(row)


def allowed(connection: sqlite3.Connection, filter: Filter) -> list[int] | None:
    """Ids of the documents that a filter lets through; None: all."""
    if not filter:
        return None
    rows = connection.execute("SELECT id, name, metadata FROM document ORDER BY id")
    return [n for n, name, data in rows if lets_through(filter, name, json.loads(data))]


def lets_through(filter: Filter, name: str, metadata: Mapping[str, str]) -> bool:
    """Whether a document passes a filter."""
    is_path = not filter.paths or any(fnmatchcase(name, pattern) for pattern in filter.paths)
    return is_path and all(metadata.get(key) == value for key, value in filter.metadata.items())


def chunks_of(connection: sqlite3.Connection, name: str) -> list[Chunk]:
    """The chunks of a document, in its order."""
    rows = connection.execute(
        f"SELECT {_CHUNK} FROM occurrence JOIN content ON content.id = occurrence.content "
        "WHERE occurrence.document = (SELECT id FROM document WHERE name = ?) "
        "ORDER BY occurrence.ordinal",
        (name,),
    )
    return [_chunk(row) for row in rows]


def match(
    connection: sqlite3.Connection, expression: str, limit: int, documents: Sequence[int] | None
) -> list[tuple[int, float]]:
    """Contents that match a full-text expression, with BM25 scores, best first."""
    # `+` keeps SQLite from looking each content up by itself, which is slower by far.
    where = "" if documents is None else f"AND +rowid IN (SELECT content {_IN_DOCUMENTS})"
    parameters: list[Any] = [expression]
    if documents is not None:
        parameters.append(json.dumps(documents))
    return connection.execute(
        f"SELECT rowid, -bm25(postings) AS score FROM postings WHERE postings MATCH ? {where} "
        "ORDER BY score DESC, rowid LIMIT ?",
        (*parameters, limit),
    ).fetchall()


def matrices(connection: sqlite3.Connection, files: VectorFiles, fingerprint: str) -> list[Matrix]:
    """The vectors of an embedder, a matrix a file."""
    rows = connection.execute(
        "SELECT id, file, rows, dim FROM segment WHERE fingerprint = ? AND rows > 0 ORDER BY id",
        (fingerprint,),
    ).fetchall()
    named = {segment for (segment,) in connection.execute("SELECT id FROM segment")}
    files.forget(named)
    return [files.mapped(*row) for row in rows]


def check_embedded(connection: sqlite3.Connection, fingerprint: str) -> None:
    """Make sure that all chunks have a vector of the embedder.

    Raises:
        IndexMismatchError: Some have not.
    """
    (forms,) = connection.execute("SELECT count(*) FROM form").fetchone()
    (blank,) = connection.execute("SELECT count(*) FROM occurrence WHERE form IS NULL").fetchone()
    counts = _vector_counts(connection)
    missing = forms + blank - counts.get(fingerprint, 0)
    if missing == 0:
        return
    others = sorted(other for other in counts if other != fingerprint)
    made = f" It was embedded with {', '.join(map(repr, others))}." if others else ""
    raise IndexMismatchError(
        f"{missing} of {forms + blank} texts have no vector of the embedder {fingerprint!r}.{made} "
        "Make them with `chunkwise embed`, which goes on where it was stopped, or choose the "
        "embedder of the corpus."
    )


def lacking_vectors(connection: sqlite3.Connection, fingerprint: str) -> list[str]:
    """Names of documents with a chunk that has no vector of the embedder."""
    rows = connection.execute(
        "SELECT name FROM document WHERE id IN (SELECT document FROM occurrence WHERE "
        "form IS NULL OR form NOT IN (SELECT form FROM vector JOIN segment "
        "ON segment.id = vector.segment WHERE fingerprint = ?)) ORDER BY name",
        (fingerprint,),
    )
    return [name for (name,) in rows]


def vector_places(
    connection: sqlite3.Connection, forms: Collection[int], fingerprint: str
) -> dict[int, tuple[int, int]]:
    """(segment, row) of the vector of an embedder, of those forms that have one."""
    rows = connection.execute(
        "SELECT vector.form, vector.segment, vector.row FROM vector "
        "JOIN segment ON segment.id = vector.segment "
        f"WHERE segment.fingerprint = ? AND vector.form IN ({_VALUES})",
        (fingerprint, json.dumps(list(forms))),
    )
    return {form: (segment, row) for form, segment, row in rows}


def rows_of(
    connection: sqlite3.Connection, segment: int, documents: Sequence[int]
) -> NDArray[np.int64]:
    """Rows of a vector file that belong to some documents, ascending."""
    found = connection.execute(
        "SELECT DISTINCT vector.row FROM vector WHERE segment = ? AND form IN "
        f"(SELECT form {_IN_DOCUMENTS})",
        (segment, json.dumps(documents)),
    )
    return np.sort(np.fromiter((row for (row,) in found), dtype=np.int64))


def owners(
    connection: sqlite3.Connection,
    segment: int,
    rows: Iterable[int],
    documents: Sequence[int] | None,
) -> list[tuple[int, int, int]]:
    """(row, content, form) of rows of a vector file; dead rows have none."""
    where = "" if documents is None else f"AND document IN ({_VALUES})"
    parameters: list[Any] = [segment, json.dumps([int(row) for row in rows])]
    if documents is not None:
        parameters.append(json.dumps(documents))
    return connection.execute(
        "SELECT DISTINCT vector.row, occurrence.content, vector.form FROM vector "
        "JOIN occurrence ON occurrence.form = vector.form "
        f"WHERE vector.segment = ? AND vector.row IN ({_VALUES}) {where}",
        parameters,
    ).fetchall()


def hits(
    connection: sqlite3.Connection,
    scores: Mapping[int, float],
    stage: str,
    documents: Sequence[int] | None,
    forms: Mapping[int, int],
) -> list[Hit]:
    """One hit for each content, best first, ties by content id."""
    where = "" if documents is None else f"AND occurrence.document IN ({_VALUES})"
    parameters: list[Any] = [json.dumps(list(scores))]
    if documents is not None:
        parameters.append(json.dumps(documents))
    rows = connection.execute(
        "SELECT * FROM (SELECT content.id, document.name, document.version, occurrence.form, "
        f"{_CHUNK}, row_number() OVER (PARTITION BY content.id ORDER BY document.name, ordinal) "
        "AS number FROM occurrence JOIN content ON content.id = occurrence.content "
        "JOIN document ON document.id = occurrence.document "
        f"WHERE occurrence.content IN ({_VALUES}) {where}) WHERE number <= {MAX_COPIES + 1} "
        "ORDER BY number",
        parameters,
    )
    places: dict[int, list[tuple[Any, ...]]] = {}
    for row in rows:
        places.setdefault(row[0], []).append(row[1:])
    found = [
        _hit(content, scores[content], stage, group, forms.get(content))
        for content, group in places.items()
    ]
    return sorted(found, key=lambda hit: (-hit.score, hit.chunk.id))


_VALUES = "SELECT value FROM json_each(?)"
_IN_DOCUMENTS = f"FROM occurrence WHERE document IN ({_VALUES})"


def _vector_counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Vectors in use by embedder."""
    rows = connection.execute(
        "SELECT s.fingerprint, count(v.row) FROM segment AS s "
        "LEFT JOIN vector AS v ON v.segment = s.id GROUP BY s.id"
    )
    counts: dict[str, int] = {}
    for fingerprint, count in rows:
        counts[fingerprint] = counts.get(fingerprint, 0) + count
    return {fingerprint: count for fingerprint, count in counts.items() if count}


def _hit(
    content: int, score: float, stage: str, group: list[tuple[Any, ...]], form: int | None
) -> Hit:
    """A hit at its best place: one embedded as the vector that was found, else the first."""
    best = next((n for n, row in enumerate(group) if form is not None and row[2] == form), 0)
    name, version, _, *chunk = group[best][:-1]
    copies = tuple((row[0], Span(row[5], row[6])) for n, row in enumerate(group) if n != best)
    return Hit(_chunk(chunk), score, name, version, {stage: score}, copies, content)


def _chunk(row: Collection[Any]) -> Chunk:
    key, text, first, last, tokens, context, first_page, last_page = row
    header, *headings = json.loads(context) if context else [""]
    return Chunk(
        id=key,
        text=text,
        span=Span(first, last),
        tokens=tokens,
        headings=tuple(headings),
        header=header,
        pages=None if first_page is None else (first_page, last_page),
    )


def _info(row: Sequence[Any]) -> DocumentInfo:
    name, version, chunks, size_bytes, mtime_ns, source_hash, recipe, title, data, added = row
    return DocumentInfo(
        name=name,
        version=version,
        chunks=chunks,
        size_bytes=size_bytes,
        mtime_ns=mtime_ns,
        source_hash=source_hash,
        recipe=json.loads(recipe),
        title=title,
        metadata=json.loads(data),
        added_at=added,
    )
