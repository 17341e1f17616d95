"""The database: its tables, how it is opened, and what its errors mean."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from chunkwise.errors import CorpusLockedError, StoreError
from chunkwise.store.searchable import FORM, TOKENIZER, searchable

APPLICATION_ID = 0x43484B57  # "CHKW"
BUSY_S = 10.0

MIGRATIONS = (
    f"""
    CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE document (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        version INTEGER NOT NULL,
        chunks INTEGER NOT NULL,
        size_bytes INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        source_hash TEXT NOT NULL,
        recipe TEXT NOT NULL,
        title TEXT NOT NULL,
        metadata TEXT NOT NULL,
        added_at TEXT NOT NULL,
        digest BLOB NOT NULL
    );
    CREATE TABLE body (
        document INTEGER PRIMARY KEY REFERENCES document ON DELETE CASCADE,
        text BLOB NOT NULL,
        structure BLOB NOT NULL
    );
    CREATE TABLE content (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, text TEXT NOT NULL);
    CREATE TABLE form (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE);
    CREATE TABLE occurrence (
        document INTEGER NOT NULL REFERENCES document ON DELETE CASCADE,
        ordinal INTEGER NOT NULL,
        content INTEGER NOT NULL REFERENCES content,
        form INTEGER REFERENCES form,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        tokens INTEGER NOT NULL,
        context TEXT NOT NULL,
        first_page INTEGER,
        last_page INTEGER,
        PRIMARY KEY (document, ordinal)
    ) WITHOUT ROWID;
    CREATE INDEX occurrence_content ON occurrence (content);
    CREATE INDEX occurrence_form ON occurrence (form);
    CREATE TABLE segment (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        fingerprint TEXT NOT NULL,
        dim INTEGER NOT NULL,
        file TEXT NOT NULL UNIQUE,
        rows INTEGER NOT NULL
    );
    CREATE TABLE run (
        segment INTEGER NOT NULL REFERENCES segment ON DELETE CASCADE,
        first_row INTEGER NOT NULL,
        rows INTEGER NOT NULL,
        checksum BLOB NOT NULL,
        PRIMARY KEY (segment, first_row)
    ) WITHOUT ROWID;
    CREATE TABLE vector (
        segment INTEGER NOT NULL REFERENCES segment ON DELETE CASCADE,
        row INTEGER NOT NULL,
        form INTEGER NOT NULL REFERENCES form,
        PRIMARY KEY (segment, row)
    ) WITHOUT ROWID;
    CREATE INDEX vector_form ON vector (form);
    CREATE VIEW indexed AS SELECT id, searchable(text) AS text FROM content;
    CREATE VIRTUAL TABLE postings USING fts5 (
        text, content='indexed', content_rowid='id', tokenize="{TOKENIZER}"
    );
    """,
)
"""One script a schema version. Append only: a released script never changes."""

SCHEMA = len(MIGRATIONS)


def connect(file: Path, *, create: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode, set up; its schema may still be old.

    Args:
        file: The database.
        create: Make it when it is not there.
    """
    mode = "rwc" if create else "rw"
    address = f"{file.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(
        address, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        _set_up(connection, file)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_up(connection: sqlite3.Connection, file: Path) -> None:
    connection.create_function("searchable", 1, searchable, deterministic=True)
    with sqlite_errors(file.parent):
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL, not NORMAL: a commit must survive a power cut, since vector files are removed on
        # the strength of it. One fsync a batch is not felt.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -32768")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA journal_size_limit = 67108864")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring an older database, or an empty one, to the schema of this version."""
    with transaction(connection):
        for number in range(schema_version(connection), SCHEMA):
            for statement in MIGRATIONS[number].split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def rebuild_if_form_changed(connection: sqlite3.Connection) -> bool:
    """Make postings again if they were made from another form of text than this version's."""
    row = connection.execute("SELECT value FROM setting WHERE key = 'searchable'").fetchone()
    if row is not None and row[0] == FORM:
        return False
    with transaction(connection):
        connection.execute("INSERT INTO postings(postings) VALUES ('rebuild')")
        connection.execute("INSERT OR REPLACE INTO setting VALUES ('searchable', ?)", (FORM,))
    return row is not None


def schema_version(connection: sqlite3.Connection) -> int:
    """Schema version of a database; 0: empty."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; takes the database's write lock at once."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite itself rolls back on some errors, such as a full disk.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def sqlite_errors(folder: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into ours, with a remedy."""
    try:
        yield
    except sqlite3.Error as error:
        raise _ours(folder, error) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _full(folder) from error
        raise StoreError(f"{folder}: cannot be written or read ({error}).") from error


def _ours(folder: Path, error: sqlite3.Error) -> StoreError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_FULL") or name in ("SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"):
        return _full(folder)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return CorpusLockedError(f"{folder}: another process is writing; try again.")
    if name.startswith("SQLITE_READONLY"):
        return StoreError(f"{folder}: is not writable for this user.")
    if name.startswith("SQLITE_CANTOPEN"):
        return StoreError(f"{folder}: the database cannot be opened; see the folder's rights.")
    return StoreError(
        f"{folder}: the database reports {error}. Run `chunkwise doctor`; if that fails, restore "
        "the folder from a copy or add the documents again."
    )


def _full(folder: Path) -> StoreError:
    return StoreError(
        f"{folder}: the disk is full, or a file has reached its size limit. What was committed is "
        "kept; make room and run the command again."
    )
