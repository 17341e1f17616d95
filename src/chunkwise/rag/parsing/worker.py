"""Parsers run in processes of their own, where they can be stopped.

A parser reads files that nobody checked: it can loop, crash or eat all memory. So each file
is read and parsed in a child process with a memory limit; the parent gives it a time limit,
replaces it when it dies, and goes on with the next file. Children are plain interpreters, so
that a caller needs no `__main__` guard; they end with their parent, `kill -9` included.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple

from chunkwise.errors import ChunkwiseError, ConfigError
from chunkwise.rag.parsing._child import HEADER_BYTES, Reply, frame
from chunkwise.types import Document

_MIN_MEMORY_BYTES = 128 * 1024**2
_START_S = 120.0  # for a child to start, on a busy machine
_EXIT_S = 2.0  # from closing its output to the exit
_MAX_STARTS = 3
_WAITING_RESULTS = 16  # for each worker
_WAITING_BYTES = 64 * 1024**2
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may take.

    Attributes:
        timeout_s: Seconds for reading and parsing it.
        memory_bytes: Memory of the process that parses it, at least 128 MiB.
        max_bytes: Size of the file.
    """

    timeout_s: float = 120.0
    memory_bytes: int = 2 * 1024**3
    max_bytes: int = 512 * 1024**2

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise ConfigError(f"`timeout_s` must be above 0, got {self.timeout_s!r}.")
        if self.memory_bytes < _MIN_MEMORY_BYTES:
            raise ConfigError(
                f"`memory_bytes` must be at least {_MIN_MEMORY_BYTES}, got {self.memory_bytes!r}."
            )
        if self.max_bytes < 1:
            raise ConfigError(f"`max_bytes` must be at least 1, got {self.max_bytes!r}.")


@dataclass(frozen=True, slots=True)
class Job:
    """A file to parse.

    Attributes:
        name: What the document is called in the corpus.
        path: Where the file is.
    """

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """What became of a job: a document, an error, or `unchanged`.

    Attributes:
        name: As in the job.
        path: As in the job.
        document: The document; None after an error or when unchanged.
        error: What is wrong, for the user, to be shown behind the name; None if nothing is.
        source_hash: BLAKE2b-128 of the file's bytes in hex; empty if it could not be read.
        size_bytes: Size of the file; 0 if it could not be read.
        mtime_ns: When the file was last changed; 0 if it could not be read.
        seconds: Time for reading and parsing it.
        unchanged: The bytes are those already known; they were not parsed.
    """

    name: str
    path: str
    document: Document | None
    error: str | None
    source_hash: str = ""
    size_bytes: int = 0
    mtime_ns: int = 0
    seconds: float = 0.0
    unchanged: bool = False


class ParserPool:
    """Child processes that parse files; use it in a `with` block.

    Children start when there is work for them and stay for the next batch. There is one batch
    at a time.

    Args:
        workers: Most processes at once.
        limits: What one file may take.
    """

    def __init__(self, workers: int = 2, limits: Limits | None = None) -> None:
        if workers < 1:
            raise ConfigError(f"`workers` must be at least 1, got {workers!r}.")
        self.workers, self.limits = workers, limits or Limits()
        self._children: list[_Child] = []
        self._selector = selectors.DefaultSelector()
        self._failed_starts = 0
        self._is_busy = self._is_closed = False

    def __enter__(self) -> ParserPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def parse_all(
        self, jobs: Iterable[Job], *, known: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator[Parsed]:
        """Parse files, and yield what became of each, in the order of `jobs`.

        Works while it is iterated, a bounded number of files ahead; `jobs` is read lazily.
        No file makes it raise.

        Args:
            jobs: What to parse.
            known: Hash of the bytes known under a name; a file that has them is `unchanged`.

        Raises:
            ChunkwiseError: The pool is closed or busy, or child processes do not start.
        """
        if self._is_closed:
            raise ChunkwiseError("This `ParserPool` is closed; make a new one.")
        if self._is_busy:
            raise ChunkwiseError("This `ParserPool` is busy; finish or close its batch first.")
        self._is_busy = True
        batch = _Batch(jobs, known, _WAITING_RESULTS * self.workers)
        try:
            self._assign(batch)
            while not batch.is_finished:
                self._collect(batch)
                self._assign(batch)
                if batch.is_ready:
                    yield batch.pop()
        finally:
            for child in [child for child in self._children if child.task is not None]:
                self._remove(child)  # stopped early: nobody waits for what it does
            self._is_busy = False

    def close(self) -> None:
        """End the child processes. Closing twice is allowed."""
        for child in list(self._children):
            self._remove(child)
        self._selector.close()
        self._is_closed = True

    def _assign(self, batch: _Batch) -> None:
        """Give a task to each child that has none, starting children as needed."""
        while (child := self._idle_child()) or len(self._children) < self.workers:
            task = batch.take()
            if task is None:
                return
            if child is None:
                child = _Child(self.limits)
                self._children.append(child)
                self._selector.register(child.stdout, selectors.EVENT_READ, child)
            child.give(task)

    def _idle_child(self) -> _Child | None:
        return next((child for child in self._children if child.task is None), None)

    def _collect(self, batch: _Batch) -> None:
        """Take what the children have sent; wait for it only if nothing can be yielded."""
        wait_s = 0.0 if batch.is_ready else self._seconds_to_deadline()
        for key, _ in self._selector.select(wait_s):
            self._receive(key.data, batch)
        now = time.monotonic()
        for child in list(self._children):
            if child.task is None or child.deadline > now:
                continue
            self._remove(child)
            if child.is_ready:
                limit = f"{self.limits.timeout_s:g} s"
                error = f"took longer than {limit}; raise `parse_timeout_s`"
                batch.fail(child.task, error, now - child.started)
            else:
                self._put_back(child, f"not ready after {_START_S:g} s", batch)

    def _seconds_to_deadline(self) -> float:
        deadlines = [child.deadline for child in self._children if child.task is not None]
        return max(0.0, min(deadlines) - time.monotonic())

    def _receive(self, child: _Child, batch: _Batch) -> None:
        for reply, num_bytes in child.receive():
            if reply is None:
                self._failed_starts = 0
            elif child.task is not None:
                batch.finish(child.task, reply, num_bytes)
                child.task = None
                if reply.is_last:
                    self._remove(child)
                    return
        if child.is_ended:
            code = self._remove(child)
            if child.task is not None and child.is_ready:
                batch.fail(child.task, _cause_of_death(code), time.monotonic() - child.started)
            elif not child.is_ready:
                self._put_back(child, _cause_of_death(code), batch)

    def _put_back(self, child: _Child, reason: str, batch: _Batch) -> None:
        """A child that did not start says nothing about its file, unless none ever starts."""
        self._failed_starts += 1
        if self._failed_starts >= _MAX_STARTS:
            raise ChunkwiseError(
                f"Parser processes do not start ({sys.executable!r}): {reason}. "
                "Its own message is on standard error; the memory limit is "
                f"{self.limits.memory_bytes} bytes."
            )
        if child.task is not None:
            batch.put_back(child.task)

    def _remove(self, child: _Child) -> int:
        """Forget a child and end it; its exit code."""
        self._children.remove(child)
        self._selector.unregister(child.stdout)
        return child.end()


class _Task(NamedTuple):
    """A job, its number in the batch, and the hash known for its name."""

    number: int
    job: Job
    known: str | None


class _Batch:
    """One run of `parse_all`: what waits to be parsed, and what waits to be yielded."""

    def __init__(self, jobs: Iterable[Job], known: Mapping[str, str], max_ahead: int) -> None:
        self._jobs, self._known, self._max_ahead = iter(jobs), known, max_ahead
        self._again: list[_Task] = []
        self._done: dict[int, tuple[Parsed, int]] = {}
        self._taken = self._yielded = self._bytes = 0
        self._is_exhausted = False

    @property
    def is_ready(self) -> bool:
        return self._yielded in self._done

    @property
    def is_finished(self) -> bool:
        return self._is_exhausted and self._yielded == self._taken

    def take(self) -> _Task | None:
        """The next task, or None when there is none, or too much is waiting to be yielded."""
        if self._again:
            return self._again.pop()
        is_far_ahead = self._taken - self._yielded >= self._max_ahead
        if self._is_exhausted or is_far_ahead or self._bytes > _WAITING_BYTES:
            return None
        job = next(self._jobs, None)
        if job is None:
            self._is_exhausted = True
            return None
        self._taken += 1
        return _Task(self._taken - 1, job, self._known.get(job.name))

    def put_back(self, task: _Task) -> None:
        self._again.append(task)

    def finish(self, task: _Task, reply: Reply, num_bytes: int) -> None:
        parsed = Parsed(task.job.name, task.job.path, *reply[:-1])
        self._done[task.number] = parsed, num_bytes
        self._bytes += num_bytes

    def fail(self, task: _Task, error: str, seconds: float) -> None:
        self.finish(task, Reply(error=error, seconds=seconds), 0)

    def pop(self) -> Parsed:
        parsed, num_bytes = self._done.pop(self._yielded)
        self._yielded += 1
        self._bytes -= num_bytes
        return parsed


class _Child:
    """A child process with at most one task."""

    def __init__(self, limits: Limits) -> None:
        self.task: _Task | None = None
        self.is_ready = self.is_ended = False
        self.started = time.monotonic()
        self.deadline = self.started + _START_S
        self._limits = limits
        self._buffer = bytearray()
        theirs, self._lifeline = os.pipe()
        try:
            self._process = _start(theirs, limits)
        except OSError as error:
            os.close(self._lifeline)
            raise ChunkwiseError(f"No parser process can be started: {error}.") from error
        finally:
            os.close(theirs)
        assert self._process.stdin is not None, "asked for as a pipe"
        assert self._process.stdout is not None, "asked for as a pipe"
        self._stdin, self.stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self.stdout.fileno(), False)

    def give(self, task: _Task) -> None:
        """Send a task; a child that has died is noticed when it is read from."""
        self.task, self.started = task, time.monotonic()
        if self.is_ready:
            self.deadline = self.started + self._limits.timeout_s
        message = frame((task.job.name, os.path.abspath(task.job.path), task.known))
        try:
            self._stdin.write(message)
        except BrokenPipeError:
            return

    def receive(self) -> Iterator[tuple[Reply | None, int]]:
        """Replies that are complete, and their sizes. What has come renews the deadline."""
        while piece := self._read():
            self._buffer += piece
        self.deadline = time.monotonic() + self._limits.timeout_s
        while len(self._buffer) >= HEADER_BYTES:
            end = HEADER_BYTES + int.from_bytes(self._buffer[:HEADER_BYTES], "little")
            if len(self._buffer) < end:
                return
            with memoryview(self._buffer) as view:
                reply: Any = pickle.loads(view[HEADER_BYTES:end])
            del self._buffer[:end]
            self.is_ready = True
            yield reply, end

    def end(self) -> int:
        """Kill the process if it still runs, and free what it held; its exit code."""
        if self.is_ended:  # it is exiting by itself: let it say how
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_EXIT_S)
        self._process.kill()
        code = self._process.wait()
        self._stdin.close()
        self.stdout.close()
        os.close(self._lifeline)
        return code

    def _read(self) -> bytes | None:
        piece: bytes | None = self.stdout.read(_READ_BYTES)
        self.is_ended = piece == b""
        return piece


def _start(lifeline: int, limits: Limits) -> subprocess.Popen[bytes]:
    numbers = [str(n) for n in (lifeline, limits.memory_bytes, limits.max_bytes)]
    return subprocess.Popen(
        # -P: a `csv.py` in the folder we are in must not hide the standard library's.
        [sys.executable, "-P", "-m", "chunkwise.rag.parsing._child", *numbers],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        pass_fds=(lifeline,),
        start_new_session=True,  # Ctrl-C is for the parent
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


def _cause_of_death(code: int) -> str:
    if code >= 0:
        return f"the parser process ended with exit code {code} on it"
    known = {number.value: number.name for number in signal.Signals}
    name = known.get(-code, f"signal {-code}")
    hint = " (killed from outside; is memory short?)" if name == "SIGKILL" else ""
    return f"the parser process died of {name} on it{hint}"
