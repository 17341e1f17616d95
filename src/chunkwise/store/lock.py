"""One writer at a time, across processes: an advisory lock on a file that names its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from chunkwise.errors import CorpusLockedError, StoreError

_POLL_S = 0.05


class WriterLock:
    """The writer's lock of one corpus folder; its holder may take it again.

    The kernel drops it when the process ends, however it ends, so a stale lock cannot be left.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "writer.lock"
        self._depth = 0
        self._descriptor = -1
        self._thread = threading.RLock()

    @property
    def is_held(self) -> bool:
        """Whether this object holds it."""
        return self._depth > 0

    @contextlib.contextmanager
    def held(self, wait_s: float) -> Iterator[bool]:
        """Hold the lock inside a `with` block; gives whether it was taken anew.

        Raises:
            CorpusLockedError: Another holds it, still after `wait_s` seconds.
        """
        if not self._thread.acquire(timeout=max(wait_s, 0.0)):
            raise self._locked(wait_s)
        try:
            is_new = self._depth == 0
            if is_new:
                self._take(wait_s)
            self._depth += 1
            try:
                yield is_new
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._drop()
        finally:
            self._thread.release()

    def _take(self, wait_s: float) -> None:
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be opened ({error.strerror}).") from error
        deadline = time.monotonic() + wait_s
        while not self._try():
            if time.monotonic() >= deadline:
                os.close(self._descriptor)
                raise self._locked(wait_s)
            time.sleep(_POLL_S)
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)
        except OSError as error:  # a full disk
            os.close(self._descriptor)
            raise StoreError(f"{self._path}: cannot be written ({error.strerror}).") from error

    def _try(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _drop(self) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)  # drops the lock

    def _locked(self, wait_s: float) -> CorpusLockedError:
        try:
            holder = self._path.read_text(encoding="ascii").strip() or "unknown"
        except OSError:
            holder = "unknown"
        return CorpusLockedError(
            f"Process {holder} is writing to {self._path.parent}; waited {wait_s:g} s. Wait for "
            "it to end, or raise `lock_wait_s`."
        )
