"""`Store`: one corpus folder, and who may do what to it when."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import StoreError
from chunkwise.store import doctor, reading, schema, searchable, writing
from chunkwise.store.codec import decode
from chunkwise.store.lock import WriterLock
from chunkwise.store.values import (
    Changes,
    DocumentInfo,
    Matrix,
    Prepared,
    Problem,
    Stats,
    Term,
)
from chunkwise.store.vectors import VectorFiles, rewrite
from chunkwise.types import Chunk, Document, Filter, Hit

T = TypeVar("T")

_DATABASE = "corpus.sqlite"
_TRIES = 5  # a reader meets a compaction at most this often in a row
_MIN_DEAD_RATIO = 0.25


class Store:
    """One corpus folder: documents, chunks and postings in SQLite, vectors in mapped files.

    Any number of processes may read while one writes. A store may be used by several threads,
    one at a time. Made by `Store.open`.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection, lock: WriterLock) -> None:
        self.folder = folder
        self._connection = connection
        self._files = VectorFiles(folder / "vectors")
        self._lock = lock
        self._threads = threading.RLock()
        self._writes = 0
        self._counts: dict[str, int] = {}
        self._counts_of: tuple[int, int] = (-1, -1)
        self._embedded_of: tuple[tuple[int, int], str] | None = None

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether the folder holds a corpus."""
        return (path / _DATABASE).is_file()

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> Store:
        """Open the corpus in a folder.

        Args:
            path: The folder.
            create: Make it if there is none.

        Raises:
            StoreError: There is none, it is damaged, or a newer version made it.
        """
        if not cls.exists(path) and not create:
            raise StoreError(f"There is no corpus at {path}; create one with `chunkwise add`.")
        lock = WriterLock(path)
        with schema.sqlite_errors(path):
            (path / "vectors").mkdir(parents=True, exist_ok=True)
            is_new = not cls.exists(path)
            with lock.held(schema.BUSY_S) if is_new else contextlib.nullcontext():
                connection = schema.connect(path / _DATABASE, create=create)
                try:
                    _bring_up_to_date(path, connection, lock)
                except BaseException:
                    connection.close()
                    raise
        return cls(path, connection, lock)

    def close(self) -> None:
        """Close the database. Arrays given out stay valid."""
        self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    # Writing

    @contextlib.contextmanager
    def writing(self, wait_s: float = 10.0) -> Iterator[None]:
        """Be the only writer, among all processes, inside a `with` block; may be nested.

        Raises:
            CorpusLockedError: Another process is writing, still after `wait_s` seconds; its
                number is in the message.
        """
        with self._lock.held(wait_s) as is_new:
            if is_new:
                with schema.sqlite_errors(self.folder), self._threads:
                    schema.rebuild_if_form_changed(self._connection)
                    self._files.remove_strays(self._connection)
            yield

    def put_setting(self, key: str, value: str) -> None:
        """Remember a value of the corpus; only inside `writing`."""
        self.put_settings({key: value})

    def put_settings(self, values: Mapping[str, str]) -> None:
        """Remember several values, all or none."""
        with self._transaction():
            for key, value in values.items():
                self._put_setting(key, value)

    def replace(
        self,
        batch: Sequence[Prepared],
        vectors: Mapping[str, NDArray[np.float32]],
        *,
        fingerprint: str = "",
    ) -> Changes:
        """Store documents in place of those of the same names: all, or none on an error.

        Args:
            batch: The documents, with their chunks.
            vectors: A vector, `(dim,)`, for each embed id of the batch that `missing_vectors`
                names; others are passed over.
            fingerprint: The embedder's.

        Returns:
            How many chunks of these documents were kept, are new, were removed.
        """
        assert fingerprint or not vectors, "vectors need the fingerprint of their embedder"
        with self._transaction():
            if fingerprint:
                self._put_setting("embedder", fingerprint)
            return writing.put(self._connection, self._files, batch, vectors, fingerprint)

    def remove(self, names: Collection[str]) -> Changes:
        """Remove documents and all that only they used; unknown names are passed over."""
        with self._transaction():
            return writing.take_out(self._connection, names)

    def touch(self, name: str, *, size_bytes: int, mtime_ns: int) -> None:
        """Note when the unchanged source of a document was last seen to change."""
        with self._transaction():
            self._connection.execute(
                "UPDATE document SET size_bytes = ?, mtime_ns = ? WHERE name = ?",
                (size_bytes, mtime_ns, name),
            )

    def drop_vectors(self, *, keep: str) -> int:
        """Drop the vectors of all embedders but one; gives how many files went."""
        with self._transaction():
            self._put_setting("embedder", keep)
            cursor = self._connection.execute("DELETE FROM segment WHERE fingerprint != ?", (keep,))
        self._files.remove_strays(self._connection)
        return cursor.rowcount

    def compact(self) -> int:
        """Rewrite vector files with many dead rows; gives how many rows were dropped.

        Raises:
            StoreError: A file is damaged.
        """
        with self._transaction():
            rows = self._connection.execute(
                "SELECT id, segment.rows, count(vector.row) FROM segment "
                "LEFT JOIN vector ON vector.segment = id GROUP BY id"
            )
            chosen = [n for n, all_, live in rows if all_ - live > _MIN_DEAD_RATIO * all_]
            for segment, *_, reason in doctor.bad_runs(self._connection, self._files):
                if segment in chosen:
                    raise StoreError(f"{reason}; run `chunkwise doctor --repair` first.")
            dropped = rewrite(self._connection, self._files, chosen)
            self._connection.execute("INSERT INTO postings (postings) VALUES ('optimize')")
        self._files.remove_strays(self._connection)
        return dropped

    # Documents

    def setting(self, key: str) -> str | None:
        """A value of the corpus, or None."""
        with self.snapshot():
            row = self._connection.execute(
                "SELECT value FROM setting WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else str(row[0])

    def documents(self, filter: Filter | None = None) -> list[DocumentInfo]:
        """Documents, by name."""
        with self.snapshot():
            return list(reading.infos(self._connection, filter or Filter()))

    def info(self, name: str) -> DocumentInfo | None:
        """One document, or None."""
        with self.snapshot():
            return reading.info(self._connection, name)

    def load(self, name: str) -> Document:
        """A document as parsed.

        Raises:
            StoreError: There is none, or its text is damaged.
        """
        with self.snapshot():
            row = self._connection.execute(
                "SELECT text, structure, digest FROM document "
                "JOIN body ON body.document = document.id WHERE name = ?",
                (name,),
            ).fetchone()
        if row is None:
            raise StoreError(f"The corpus has no document {name!r}; see `chunkwise ls`.")
        return decode(name, *row)

    def chunks(self, name: str) -> list[Chunk]:
        """The chunks of a document, in its order; none if there is no such document."""
        with self.snapshot():
            return reading.chunks_of(self._connection, name)

    def content_ids(self) -> list[str]:
        """The content ids of all chunks."""
        with self.snapshot():
            rows = self._connection.execute("SELECT key FROM content").fetchall()
        return [key.hex() for (key,) in rows]

    def missing_vectors(self, embed_ids: Collection[str], fingerprint: str) -> set[str]:
        """Those embed ids that have no vector of the embedder."""
        with self.snapshot():
            keys = [bytes.fromhex(key) for key in embed_ids]
            forms = writing.known_keys(self._connection, "form", keys)
            found = reading.vector_places(self._connection, forms.values(), fingerprint)
        have = {key.hex() for key, form in forms.items() if form in found}
        return set(embed_ids) - have

    def vectors(
        self, embed_ids: Collection[str], fingerprint: str
    ) -> dict[str, NDArray[np.float32]]:
        """The vectors of an embedder, `(dim,)`, of those embed ids that have one."""
        return self.read(lambda: self._vectors(embed_ids, fingerprint))

    def _vectors(
        self, embed_ids: Collection[str], fingerprint: str
    ) -> dict[str, NDArray[np.float32]]:
        keys = [bytes.fromhex(key) for key in embed_ids]
        forms = writing.known_keys(self._connection, "form", keys)
        places = reading.vector_places(self._connection, forms.values(), fingerprint)
        if not places:
            return {}
        matrices = {m.segment: m.array for m in self._matrices(fingerprint)}
        return {
            key.hex(): matrices[segment][row]
            for key, form in forms.items()
            if form in places
            for segment, row in [places[form]]
        }

    def lacking_vectors(self, fingerprint: str) -> list[str]:
        """Names of documents with a chunk that has no vector of the embedder."""
        with self.snapshot():
            return reading.lacking_vectors(self._connection, fingerprint)

    def stats(self) -> Stats:
        """How much there is of what, and bytes on disk."""
        with self.snapshot():
            documents, chunks, contents, vectors = (
                int(self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
                for table in ("document", "occurrence", "content", "vector")
            )
            (rows,) = self._connection.execute(
                "SELECT coalesce(sum(rows), 0) FROM segment"
            ).fetchone()
        return Stats(
            documents=documents,
            chunks=chunks,
            contents=contents,
            vectors=vectors,
            dead_vectors=rows - vectors,
            database_bytes=_bytes(self.folder / _DATABASE),
            log_bytes=_bytes(self.folder / f"{_DATABASE}-wal"),
            vector_bytes=sum(_bytes(path) for path in self._files.folder.iterdir()),
        )

    # Care

    def check(self) -> list[Problem]:
        """Everything that is wrong on disk. Reads all of it; waits for a writer to finish."""
        with schema.sqlite_errors(self.folder), self._lock.held(schema.BUSY_S), self._threads:
            return list(doctor.problems(self._connection, self._files))

    def repair(self) -> list[str]:
        """Put right what is derived; says what was done. Never drops text."""
        with self._transaction():
            done = doctor.repair(self._connection, self._files)
        strays = self._files.remove_strays(self._connection)
        return [*done, *(f"removed the file {name}, which nothing named" for name in strays)]

    # Retrieval: satisfies `chunkwise.rag.retrieval.base.ChunkSource`

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """One consistent view for all calls inside a `with` block; may be nested."""
        with self._threads, schema.sqlite_errors(self.folder):
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def read(self, work: Callable[[], T]) -> T:
        """The result of `work`, all of whose reads see one view of the corpus; may be nested.

        It is called again when a compaction has removed a file of that view meanwhile.
        """
        for _ in range(0 if self._connection.in_transaction else _TRIES - 1):
            try:
                with self.snapshot():
                    return work()
            except _MissingFileError:
                continue
        with self.snapshot():
            return work()

    def allowed(self, filter: Filter) -> list[int] | None:
        """Ids of the documents that a filter lets through; None: all."""
        with self.snapshot():
            return reading.allowed(self._connection, filter)

    @staticmethod
    def terms(text: str) -> list[Term]:
        """What a question looks up in the word index."""
        return searchable.terms(text)

    def num_contents(self) -> int:
        """Texts in the word index."""
        with self.snapshot():
            return self._counted("", "SELECT count(*) FROM content", ())

    def match_count(self, expression: str) -> int:
        """Texts that match a full-text expression; remembered until the corpus changes."""
        with self.snapshot():
            sql = "SELECT count(*) FROM postings WHERE postings MATCH ?"
            return self._counted(expression, sql, (expression,))

    def match(
        self, expression: str, limit: int, documents: Sequence[int] | None = None
    ) -> list[tuple[int, float]]:
        """Contents that match a full-text expression, with BM25 scores, best first."""
        with self.snapshot():
            return reading.match(self._connection, expression, limit, documents)

    def matrices(self, fingerprint: str) -> list[Matrix]:
        """The vectors of an embedder, a matrix a file.

        Raises:
            IndexMismatchError: Not all chunks have one.
            StoreError: A file is damaged or not there.
        """
        with self.snapshot():
            checked = (self._view(), fingerprint)
            if self._embedded_of != checked:
                reading.check_embedded(self._connection, fingerprint)
                self._embedded_of = checked
            return self._matrices(fingerprint)

    def _matrices(self, fingerprint: str) -> list[Matrix]:
        try:
            return reading.matrices(self._connection, self._files, fingerprint)
        except FileNotFoundError as error:
            raise _MissingFileError(
                f"{error.filename} is not there. No text is lost: run "
                "`chunkwise doctor --repair`, then `chunkwise embed`."
            ) from error

    def vector_rows(self, segment: int, documents: Sequence[int]) -> NDArray[np.int64]:
        """Rows of a matrix that belong to some documents, ascending."""
        with self.snapshot():
            return reading.rows_of(self._connection, segment, documents)

    def owners(
        self, segment: int, rows: Sequence[int], documents: Sequence[int] | None = None
    ) -> list[tuple[int, int, int]]:
        """(row, content, form) of rows of a matrix; dead rows are left out."""
        with self.snapshot():
            return reading.owners(self._connection, segment, rows, documents)

    def hits(
        self,
        scores: Mapping[int, float],
        stage: str,
        documents: Sequence[int] | None = None,
        *,
        forms: Mapping[int, int] | None = None,
    ) -> list[Hit]:
        """One hit for each content, best first, ties by content id.

        Args:
            scores: Score of each content.
            stage: Whose scores these are.
            documents: Where hits may stand; None: anywhere.
            forms: For each content the embedded form that was found; its place is shown.
        """
        with self.snapshot():
            return reading.hits(self._connection, scores, stage, documents, forms or {})

    # Helpers

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """A transaction of the only writer; if it fails, its vector files go with it."""
        with self.writing(), self._threads, schema.sqlite_errors(self.folder):
            try:
                with schema.transaction(self._connection):
                    self._writes += 1
                    yield
            except BaseException:
                with contextlib.suppress(sqlite3.Error, OSError):  # the next writer tries again
                    self._files.remove_strays(self._connection)
                raise

    def _put_setting(self, key: str, value: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (key, value))

    def _view(self) -> tuple[int, int]:
        """Changes whenever what can be read may have changed."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version), self._writes

    def _counted(self, key: str, sql: str, parameters: tuple[str, ...]) -> int:
        view = self._view()
        if self._counts_of != view:
            self._counts, self._counts_of = {}, view
        if key not in self._counts:
            self._counts[key] = int(self._connection.execute(sql, parameters).fetchone()[0])
        return self._counts[key]


class _MissingFileError(StoreError):
    """A vector file is not there: lost, or compacted away since this view was taken."""


def _bring_up_to_date(path: Path, connection: sqlite3.Connection, lock: WriterLock) -> None:
    """Migrate the schema, or refuse."""
    found = schema.schema_version(connection)
    if found > schema.SCHEMA:
        raise StoreError(
            f"The corpus at {path} has schema {found}, this version knows {schema.SCHEMA}; "
            "install a newer Chunkwise."
        )
    if found < schema.SCHEMA:
        with lock.held(schema.BUSY_S):
            schema.migrate(connection)
            schema.rebuild_if_form_changed(connection)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
