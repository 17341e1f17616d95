"""What a writer does inside one transaction: put documents in, take them out."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import StoreError
from chunkwise.store.codec import Encoded, encode
from chunkwise.store.reading import vector_places
from chunkwise.store.searchable import searchable
from chunkwise.store.values import Changes, Prepared
from chunkwise.store.vectors import VectorFiles
from chunkwise.types import Chunk

_PLACES = 500  # parameters in one statement
_SURROGATES = re.compile("[\ud800-\udfff]")

Place = tuple[int, int | None]  # content, form


def put(
    connection: sqlite3.Connection,
    files: VectorFiles,
    batch: Sequence[Prepared],
    vectors: Mapping[str, NDArray[np.float32]],
    fingerprint: str,
) -> Changes:
    """Store documents in place of those of the same names; inside a transaction."""
    documents = {prepared.document.name: prepared for prepared in batch}
    ids = _store_documents(connection, documents)
    old = _places(connection, ids.values())
    contents = _store_contents(connection, documents.values())
    forms = _store_forms(connection, documents.values())
    _store_vectors(connection, files, forms, vectors, fingerprint)
    new = {
        ids[name]: _new_places(prepared, contents, forms) for name, prepared in documents.items()
    }
    _delete_where(connection, "DELETE FROM occurrence WHERE document IN", ids.values())
    connection.executemany(
        "INSERT INTO occurrence VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        _occurrences(documents, ids, new),
    )
    gone = {place for places in old.values() for place in places}
    _drop_unused(connection, gone - {place for places in new.values() for place in places})
    return _changes(old, new)


def take_out(connection: sqlite3.Connection, names: Iterable[str]) -> Changes:
    """Remove documents, and what only they used; inside a transaction."""
    ids = _select_in(connection, "SELECT id FROM document WHERE name IN", list(names))
    old = _places(connection, [document for (document,) in ids])
    _delete_where(connection, "DELETE FROM document WHERE id IN", old)
    _drop_unused(connection, {place for places in old.values() for place in places})
    return Changes(removed=sum(map(len, old.values())))


def drop_unused(connection: sqlite3.Connection) -> int:
    """Remove contents and forms that stand nowhere; gives how many contents. For repair."""
    contents = connection.execute(
        "SELECT id FROM content WHERE id NOT IN (SELECT content FROM occurrence)"
    ).fetchall()
    forms = connection.execute(
        "SELECT id FROM form WHERE id NOT IN (SELECT form FROM occurrence WHERE form IS NOT NULL)"
    ).fetchall()
    _drop_contents(connection, [content for (content,) in contents])
    _drop_forms(connection, [form for (form,) in forms])
    return len(contents)


def known_keys(
    connection: sqlite3.Connection, table: str, keys: Collection[bytes]
) -> dict[bytes, int]:
    """Row ids of those keys that a table (`content` or `form`) holds."""
    return dict(_select_in(connection, f"SELECT key, id FROM {table} WHERE key IN", list(keys)))


def _store_documents(
    connection: sqlite3.Connection, documents: Mapping[str, Prepared]
) -> dict[str, int]:
    """Rows of `document` and `body`; the ids by name."""
    known = {
        name: (document, version, digest)
        for name, document, version, digest in _select_in(
            connection, "SELECT name, id, version, digest FROM document WHERE name IN", documents
        )
    }
    next_id = _next_id(connection, "document")
    ids: dict[str, int] = {}
    rows, bodies = [], []
    for name, prepared in documents.items():
        encoded = encode(prepared.document)
        document, version, digest = known.get(name, (next_id, 0, b""))
        next_id += document == next_id
        ids[name] = document
        if digest != encoded.digest:
            version += 1
            bodies.append((document, encoded.text, encoded.structure))
        rows.append(_document_row(document, version, prepared, encoded))
    connection.executemany(
        "INSERT OR IGNORE INTO document VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        rows,
    )
    connection.executemany(
        "UPDATE document SET added_at = iif(version = ?3, added_at, ?11), version = ?3, "
        "chunks = ?4, size_bytes = ?5, mtime_ns = ?6, source_hash = ?7, recipe = ?8, title = ?9, "
        "metadata = ?10, digest = ?12 WHERE id = ?1 AND name = ?2",
        [row for row in rows if row[1] in known],
    )
    connection.executemany("INSERT OR REPLACE INTO body VALUES (?, ?, ?)", bodies)
    return ids


def _document_row(
    document: int, version: int, prepared: Prepared, encoded: Encoded
) -> tuple[Any, ...]:
    return (
        document,
        prepared.document.name,
        version,
        len(prepared.chunks),
        prepared.size_bytes,
        prepared.mtime_ns,
        prepared.source_hash,
        json.dumps(dict(prepared.recipe)),
        _SURROGATES.sub("\ufffd", prepared.document.title),
        json.dumps(dict(prepared.document.metadata)),
        datetime.now(UTC).isoformat(timespec="seconds"),
        encoded.digest,
    )


def _store_contents(connection: sqlite3.Connection, batch: Collection[Prepared]) -> dict[str, int]:
    """Rows of `content` and `postings` for texts not yet there; all ids by content id."""
    texts = {chunk.id: chunk.text for prepared in batch for chunk in prepared.chunks}
    ids, new = _numbered(connection, "content", texts)
    try:
        connection.executemany(
            "INSERT INTO content VALUES (?, ?, ?)",
            [(number, bytes.fromhex(key), texts[key]) for key, number in new],
        )
    except UnicodeEncodeError as error:
        raise StoreError(
            "A chunk holds half of a surrogate pair, which is no text; replace it by U+FFFD."
        ) from error
    connection.executemany(
        "INSERT INTO postings (rowid, text) VALUES (?, ?)",
        [(number, searchable(texts[key])) for key, number in new],
    )
    return ids


def _store_forms(connection: sqlite3.Connection, batch: Collection[Prepared]) -> dict[str, int]:
    """Rows of `form` for keys not yet there; all ids by key."""
    keys = dict.fromkeys(key for prepared in batch for key in prepared.embed_ids)
    ids, new = _numbered(connection, "form", keys)
    connection.executemany(
        "INSERT INTO form VALUES (?, ?)", [(number, bytes.fromhex(key)) for key, number in new]
    )
    return ids


def _numbered(
    connection: sqlite3.Connection, table: str, keys: Collection[str]
) -> tuple[dict[str, int], list[tuple[str, int]]]:
    """Ids of keys, and those of them that are new: the only writer may number rows itself."""
    found = known_keys(connection, table, [bytes.fromhex(key) for key in keys])
    ids = {key.hex(): number for key, number in found.items()}
    next_id = _next_id(connection, table)
    new = [(key, next_id + n) for n, key in enumerate(key for key in keys if key not in ids)]
    ids.update(new)
    return ids, new


def _store_vectors(
    connection: sqlite3.Connection,
    files: VectorFiles,
    forms: Mapping[str, int],
    vectors: Mapping[str, NDArray[np.float32]],
    fingerprint: str,
) -> None:
    """Append the vectors that are used and not yet there."""
    wanted = {forms[key]: key for key in vectors if key in forms}
    wanted = {
        form: wanted[form]
        for form in wanted.keys() - vector_places(connection, wanted, fingerprint).keys()
    }
    if not wanted:
        return
    order = sorted(wanted)
    matrix = np.stack([vectors[wanted[form]] for form in order]).astype(np.float32, copy=False)
    if not np.isfinite(matrix).all():
        raise StoreError(f"The embedder {fingerprint!r} gave vectors that are not finite.")
    places = files.append(connection, fingerprint, matrix)
    connection.executemany(
        "INSERT INTO vector VALUES (?, ?, ?)",
        [(segment, row, form) for (segment, row), form in zip(places, order, strict=True)],
    )


def _new_places(
    prepared: Prepared, contents: Mapping[str, int], forms: Mapping[str, int]
) -> list[Place]:
    keys: Sequence[str | None] = prepared.embed_ids or [None] * len(prepared.chunks)
    return [
        (contents[chunk.id], None if key is None else forms[key])
        for chunk, key in zip(prepared.chunks, keys, strict=True)
    ]


def _occurrences(
    documents: Mapping[str, Prepared], ids: Mapping[str, int], places: Mapping[int, list[Place]]
) -> Iterator[tuple[Any, ...]]:
    for name, prepared in documents.items():
        document = ids[name]
        pairs = zip(prepared.chunks, places[document], strict=True)
        for ordinal, (chunk, (content, form)) in enumerate(pairs):
            first_page, last_page = chunk.pages or (None, None)
            span, context = chunk.span, _context(chunk)
            head = (document, ordinal, content, form, span.start, span.end)
            yield (*head, chunk.tokens, context, first_page, last_page)


def _context(chunk: Chunk) -> str:
    """Table header and headings in one column; empty when there are none."""
    if not (chunk.headings or chunk.header):
        return ""
    return json.dumps([chunk.header, *chunk.headings], separators=(",", ":"))


def _places(connection: sqlite3.Connection, documents: Collection[int]) -> dict[int, list[Place]]:
    """Content and form of each chunk of some documents."""
    found: dict[int, list[Place]] = {document: [] for document in documents}
    rows = connection.execute(
        "SELECT document, content, form FROM occurrence WHERE document IN "
        "(SELECT value FROM json_each(?))",
        (json.dumps(list(documents)),),
    )
    for document, content, form in rows:
        found[document].append((content, form))
    return found


def _changes(old: Mapping[int, list[Place]], new: Mapping[int, list[Place]]) -> Changes:
    total = Changes()
    for document, places in new.items():
        before = Counter(content for content, _ in old[document])
        after = Counter(content for content, _ in places)
        kept = (before & after).total()
        total += Changes(kept, after.total() - kept, before.total() - kept)
    return total


def _drop_unused(connection: sqlite3.Connection, places: Collection[Place]) -> None:
    """Remove those contents and forms of `places` that stand nowhere any more."""
    if not places:
        return
    unused = (
        "SELECT value FROM json_each(?) WHERE value NOT IN (SELECT {0} FROM occurrence "
        "WHERE {0} = value)"
    )
    contents = json.dumps(list({content for content, _ in places}))
    forms = json.dumps(list({form for _, form in places if form is not None}))
    found = connection.execute(unused.format("content"), (contents,)).fetchall()
    _drop_contents(connection, [content for (content,) in found])
    found = connection.execute(unused.format("form"), (forms,)).fetchall()
    _drop_forms(connection, [form for (form,) in found])


def _drop_contents(connection: sqlite3.Connection, contents: Sequence[int]) -> None:
    for start in range(0, len(contents), _PLACES):
        part = contents[start : start + _PLACES]
        rows = _select_in(connection, "SELECT id, text FROM content WHERE id IN", part)
        connection.executemany(
            "INSERT INTO postings (postings, rowid, text) VALUES ('delete', ?, ?)",
            [(number, searchable(text)) for number, text in rows],
        )
    _delete_where(connection, "DELETE FROM content WHERE id IN", contents)


def _drop_forms(connection: sqlite3.Connection, forms: Sequence[int]) -> None:
    _delete_where(connection, "DELETE FROM vector WHERE form IN", forms)
    _delete_where(connection, "DELETE FROM form WHERE id IN", forms)


def _delete_where(connection: sqlite3.Connection, statement: str, ids: Collection[int]) -> None:
    connection.execute(f"{statement} (SELECT value FROM json_each(?))", (json.dumps(list(ids)),))


def _select_in(
    connection: sqlite3.Connection, statement: str, values: Collection[Any]
) -> list[tuple[Any, ...]]:
    """Rows of a `SELECT ... IN` for any number of values."""
    every = list(values)
    found: list[tuple[Any, ...]] = []
    for start in range(0, len(every), _PLACES):
        part = every[start : start + _PLACES]
        found += connection.execute(f"{statement} ({','.join('?' * len(part))})", part)
    return found


def _next_id(connection: sqlite3.Connection, table: str) -> int:
    (last,) = connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()
    return int(last) + 1
