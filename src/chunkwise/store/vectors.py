"""Vector files: rows of float32, appended only, committed by rows of the database.

A file may be longer than what is committed; the rest is ignored, and cut off by the next
writer. A run is what one transaction appended, with a checksum. A row that no form of a chunk
uses is dead. Files go away only after the commit that stopped naming them, so that a reader with
an older view keeps its map.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import sqlite3
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import StoreError
from chunkwise.store.values import Matrix

SEGMENT_ROWS = 262_144
"""Rows after which a new file is begun: some 400 MB at 384 dimensions."""

_COPIED_ROWS = 16_384  # rows that compaction copies at once

Vectors = NDArray[np.float32]


class VectorFiles:
    """The folder of vector files of one corpus. Not locked: the store sees to that."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._maps: dict[int, tuple[int, Vectors]] = {}

    def append(
        self, connection: sqlite3.Connection, fingerprint: str, vectors: Vectors
    ) -> list[tuple[int, int]]:
        """Append rows inside the open transaction; gives (segment, row) of each.

        The bytes are on disk when this returns, and count once the transaction commits.
        """
        places: list[tuple[int, int]] = []
        while len(places) < len(vectors):
            segment, file, rows = self._tail(connection, fingerprint, vectors.shape[1])
            part = vectors[len(places) : len(places) + SEGMENT_ROWS - rows]
            _write(self.folder / file, rows, part)
            connection.execute(
                "INSERT INTO run VALUES (?, ?, ?, ?)", (segment, rows, len(part), checksum(part))
            )
            connection.execute(
                "UPDATE segment SET rows = rows + ? WHERE id = ?", (len(part), segment)
            )
            places += [(segment, rows + number) for number in range(len(part))]
        return places

    def mapped(self, segment: int, file: str, rows: int, dim: int) -> Matrix:
        """The committed rows of a file.

        Raises:
            FileNotFoundError: It is gone: compacted away, or lost.
            StoreError: It is shorter than what was committed.
        """
        path = self.folder / file
        known = self._maps.get(segment)
        # A file that was compacted away lives on in its map; one that was cut off must not be read.
        if known is None or known[0] < rows or 0 <= _size(path) < rows * dim * 4:
            self._maps.pop(segment, None)
            self._maps[segment] = rows, _map(path, rows, dim)
        return Matrix(segment, path, self._maps[segment][1][:rows])

    def forget(self, kept: set[int]) -> None:
        """Drop maps of files that are not named any more."""
        for segment in set(self._maps) - kept:
            del self._maps[segment]

    def remove_strays(self, connection: sqlite3.Connection) -> list[str]:
        """Remove files that the committed database does not name; gives their names."""
        strays = self.strays(connection)
        for name in strays:
            (self.folder / name).unlink(missing_ok=True)
        return strays

    def strays(self, connection: sqlite3.Connection) -> list[str]:
        """Files in the folder that the database does not name."""
        named = {file for (file,) in connection.execute("SELECT file FROM segment")}
        found = sorted(entry.name for entry in self.folder.iterdir())
        return [name for name in found if name.partition(".")[0] + ".f32" not in named]

    def _tail(
        self, connection: sqlite3.Connection, fingerprint: str, dim: int
    ) -> tuple[int, str, int]:
        """The file to append to: the last one of its kind, or a new one."""
        last = connection.execute(
            "SELECT id, file, rows, dim FROM segment WHERE fingerprint = ? ORDER BY id DESC",
            (fingerprint,),
        ).fetchone()
        if last is not None:
            segment, file, rows, last_dim = last
            if last_dim != dim:
                raise StoreError(f"{fingerprint!r} made vectors of {last_dim}, now of {dim}.")
            if rows < SEGMENT_ROWS and _size(self.folder / file) >= rows * dim * 4:
                return segment, file, rows
        cursor = connection.execute(
            "INSERT INTO segment (fingerprint, dim, file, rows) VALUES (?, ?, '', 0)",
            (fingerprint, dim),
        )
        segment = int(cursor.lastrowid or 0)
        file = f"{segment:06d}.f32"
        connection.execute("UPDATE segment SET file = ? WHERE id = ?", (file, segment))
        return segment, file, 0


def rewrite(connection: sqlite3.Connection, files: VectorFiles, segments: list[int]) -> int:
    """Copy the live rows of some segments to new files, inside the open transaction.

    The old files are to be removed after the commit. Gives how many rows were dropped.
    """
    dropped = 0
    found = [
        connection.execute(
            "SELECT id, fingerprint, dim, file, rows FROM segment WHERE id = ?", (segment,)
        ).fetchone()
        for segment in segments
    ]
    # A segment that is rewritten must not be appended to: hide it from `append`.
    connection.executemany(
        "UPDATE segment SET fingerprint = '' WHERE id = ?", [(segment,) for segment in segments]
    )
    for segment, fingerprint, dim, file, rows in found:
        old = files.mapped(segment, file, rows, dim).array
        live = connection.execute(
            "SELECT row, form FROM vector WHERE segment = ? ORDER BY row", (segment,)
        ).fetchall()
        for start in range(0, len(live), _COPIED_ROWS):
            part = live[start : start + _COPIED_ROWS]
            places = files.append(connection, fingerprint, old[[row for row, _ in part]])
            pairs = zip(places, part, strict=True)
            connection.executemany(
                "INSERT INTO vector VALUES (?, ?, ?)",
                [(new, row, form) for (new, row), (_, form) in pairs],
            )
        connection.execute("DELETE FROM segment WHERE id = ?", (segment,))
        dropped += rows - len(live)
    return dropped


def checksum(vectors: Vectors) -> bytes:
    """BLAKE2b-128 of the bytes of some rows."""
    return hashlib.blake2b(np.ascontiguousarray(vectors).data, digest_size=16).digest()


def _write(path: Path, rows: int, vectors: Vectors) -> None:
    """Write rows at their place, cutting off what was never committed, and reach the disk."""
    data = np.ascontiguousarray(vectors, dtype="<f4")
    offset = rows * vectors.shape[1] * 4
    is_new = not path.exists()
    with open(path, "wb" if is_new else "r+b") as file:
        file.truncate(offset)
        file.seek(offset)
        file.write(data.data)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _map(path: Path, rows: int, dim: int) -> Vectors:
    size = rows * dim * 4
    if size == 0:
        return np.empty((0, dim), dtype=np.float32)
    with open(path, "rb") as file:
        found = os.fstat(file.fileno()).st_size
        if found < size:
            raise StoreError(
                f"{path}: has {found} of {size} bytes. No text is lost: run "
                "`chunkwise doctor --repair`, then `chunkwise embed`."
            )
        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, dtype="<f4").reshape(rows, dim)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
