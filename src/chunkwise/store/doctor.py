"""Is the corpus on disk sound, and what can be put right without losing text."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator

from chunkwise.errors import StoreError
from chunkwise.store import writing
from chunkwise.store.codec import decode
from chunkwise.store.values import Problem
from chunkwise.store.vectors import VectorFiles
from chunkwise.types import content_id

_EMBED = "`chunkwise doctor --repair`, then `chunkwise embed`."
_REPAIR = "`chunkwise doctor --repair`."
_ADD_AGAIN = "remove the document and add it again."


def problems(connection: sqlite3.Connection, files: VectorFiles) -> Iterator[Problem]:
    """Everything that is wrong, most basic first."""
    damage = [line for (line,) in connection.execute("PRAGMA integrity_check") if line != "ok"]
    if damage:
        remedy = "restore the folder from a copy, or add the documents to a new one."
        yield Problem("database", f"SQLite finds damage: {'; '.join(damage[:5])}.", remedy)
        return
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield Problem("database", f"{table} row {row} names no row of {parent}.", _REPAIR)
    if not _is_postings_sound(connection):
        yield Problem("postings", "The word index does not agree with the texts.", _REPAIR)
    yield from _chunk_problems(connection)
    yield from _document_problems(connection)
    yield from _vector_problems(connection, files)


def repair(connection: sqlite3.Connection, files: VectorFiles) -> list[str]:
    """Put right what is derived or unused, inside a transaction; says what was done."""
    done = []
    if not _is_postings_sound(connection):
        connection.execute("INSERT INTO postings (postings) VALUES ('rebuild')")
        done.append("built the word index again")
    if (count := writing.drop_unused(connection)) > 0:
        done.append(f"dropped {count} texts that stand in no document")
    for segment, first_row, rows, _ in list(bad_runs(connection, files)):
        place = (segment, first_row, first_row + rows)
        cursor = connection.execute(
            "DELETE FROM vector WHERE segment = ? AND row >= ? AND row < ?", place
        )
        connection.execute(
            "DELETE FROM run WHERE segment = ? AND first_row = ?", (segment, first_row)
        )
        done.append(f"dropped {cursor.rowcount} damaged vectors; make them with `chunkwise embed`")
    for segment, rows in _unsupported_tails(connection):
        connection.execute("UPDATE segment SET rows = ? WHERE id = ?", (rows, segment))
    connection.execute(
        "DELETE FROM vector WHERE row >= (SELECT rows FROM segment WHERE id = segment)"
    )
    connection.execute("DELETE FROM segment WHERE rows = 0")
    return done


def bad_runs(
    connection: sqlite3.Connection, files: VectorFiles
) -> Iterator[tuple[int, int, int, str]]:
    """(segment, first row, rows, reason) of runs whose bytes are not those committed."""
    rows = connection.execute(
        "SELECT segment.id, file, dim, first_row, run.rows, checksum FROM run "
        "JOIN segment ON segment.id = run.segment ORDER BY segment.id, first_row"
    ).fetchall()
    for segment, file, dim, first_row, count, expected in rows:
        try:
            with open(files.folder / file, "rb") as stream:
                stream.seek(first_row * dim * 4)
                data = stream.read(count * dim * 4)
        except FileNotFoundError:
            yield segment, first_row, count, f"{file} is not there"
            continue
        if len(data) < count * dim * 4:
            yield segment, first_row, count, f"{file} is too short"
        elif hashlib.blake2b(data, digest_size=16).digest() != expected:
            yield segment, first_row, count, f"{file} has other bytes than were written"


def _is_postings_sound(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("INSERT INTO postings (postings, rank) VALUES ('integrity-check', 1)")
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "").startswith("SQLITE_CORRUPT"):
            return False
        raise
    return True


def _chunk_problems(connection: sqlite3.Connection) -> Iterator[Problem]:
    (unused,) = connection.execute(
        "SELECT count(*) FROM content WHERE id NOT IN (SELECT content FROM occurrence)"
    ).fetchone()
    if unused:
        yield Problem("chunks", f"{unused} texts stand in no document.", _REPAIR)
    for key, text in connection.execute("SELECT lower(hex(key)), text FROM content"):
        if content_id(text) != key:
            yield Problem("chunks", f"The text of content {key} is not the one stored.", _ADD_AGAIN)
    rows = connection.execute(
        "SELECT name, chunks, (SELECT count(*) FROM occurrence WHERE document = document.id) AS n "
        "FROM document WHERE chunks != n"
    )
    for name, expected, found in rows:
        yield Problem("documents", f"{name!r} has {found} of {expected} chunks.", _ADD_AGAIN)


def _document_problems(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Bodies that cannot be read, and chunks that are not their spans."""
    rows = connection.execute(
        "SELECT document.id, name, text, structure, digest FROM document "
        "LEFT JOIN body ON body.document = document.id ORDER BY name"
    )
    for number, name, text, structure, digest in rows:
        if text is None:
            yield Problem("documents", f"{name!r} has lost its text.", _ADD_AGAIN)
            continue
        try:
            document = decode(name, text, structure, digest)
        except StoreError as error:
            yield Problem("documents", str(error), _ADD_AGAIN)
            continue
        spans = connection.execute(
            "SELECT first, last, text FROM occurrence JOIN content ON content.id = content "
            "WHERE document = ?",
            (number,),
        )
        wrong = sum(document.text[first:last] != piece for first, last, piece in spans)
        if wrong:
            yield Problem("documents", f"{wrong} chunks of {name!r} are not its text.", _ADD_AGAIN)


def _vector_problems(connection: sqlite3.Connection, files: VectorFiles) -> Iterator[Problem]:
    for segment, first_row, rows, reason in bad_runs(connection, files):
        message = f"{reason} (rows {first_row} to {first_row + rows} of segment {segment})."
        yield Problem("vectors", message, _EMBED)
    strays = files.strays(connection)
    if strays:
        yield Problem("vectors", f"Files that nothing names: {', '.join(strays[:5])}.", _REPAIR)
    current = connection.execute("SELECT value FROM setting WHERE key = 'embedder'").fetchone()
    if current is None:
        return
    (missing,) = connection.execute(
        "SELECT count(*) FROM form WHERE id NOT IN (SELECT form FROM vector JOIN segment "
        "ON segment.id = vector.segment WHERE fingerprint = ?)",
        current,
    ).fetchone()
    (blank,) = connection.execute("SELECT count(*) FROM occurrence WHERE form IS NULL").fetchone()
    if missing or blank:
        message = f"{missing + blank} texts have no vector of the embedder {current[0]!r}."
        yield Problem("vectors", message, "`chunkwise embed`.")
    lost = connection.execute(
        "SELECT count(*) FROM vector LEFT JOIN segment ON segment.id = vector.segment "
        "WHERE segment.id IS NULL OR vector.row >= segment.rows"
    ).fetchone()
    if lost[0]:
        yield Problem("vectors", f"{lost[0]} vectors lie outside of their files.", _REPAIR)


def _unsupported_tails(connection: sqlite3.Connection) -> list[tuple[int, int]]:
    """Segments whose last runs were dropped, and the rows up to the last run that is left."""
    return connection.execute(
        "SELECT segment.id, coalesce(max(run.first_row + run.rows), 0) AS n FROM segment "
        "LEFT JOIN run ON run.segment = segment.id GROUP BY segment.id HAVING n < segment.rows"
    ).fetchall()
