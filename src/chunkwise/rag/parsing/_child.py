"""The process that parses files for `worker.ParserPool`; started with `python -m`, not imported.

Jobs come in on standard input and replies go out on standard output, each a pickle behind its
length. The reply `None` says that the process is ready. It ends at the end of its input, and
at once when its parent dies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import pickle
import resource
import select
import signal
import stat
import sys
import time
import warnings
from typing import BinaryIO, NamedTuple

from chunkwise.errors import ChunkwiseError, DocumentError
from chunkwise.types import Document

HEADER_BYTES = 8
_MIB = 1024**2


class Reply(NamedTuple):
    """What became of a job; the fields of `worker.Parsed`, and whether this process ends."""

    document: Document | None = None
    error: str | None = None
    source_hash: str = ""
    size_bytes: int = 0
    mtime_ns: int = 0
    seconds: float = 0.0
    unchanged: bool = False
    is_last: bool = False


def frame(value: object) -> bytes:
    """A pickle behind its length."""
    body = pickle.dumps(value, protocol=5)
    return len(body).to_bytes(HEADER_BYTES, "little") + body


def main(lifeline: int, memory_bytes: int, max_bytes: int) -> None:
    """Serve jobs until the input ends.

    Args:
        lifeline: Read end of a pipe whose write end only the parent holds.
        memory_bytes: Memory this process may take.
        max_bytes: Largest file to read.
    """
    _die_with(lifeline)
    jobs, replies = _take_standard_streams()
    _limit_memory(memory_bytes)
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    _load_parsers()
    _send(replies, frame(None))
    while header := jobs.read(HEADER_BYTES):
        name, path, known = pickle.loads(jobs.read(int.from_bytes(header, "little")))
        message, is_last = _work(name, path, known, max_bytes, memory_bytes)
        _send(replies, message)
        if is_last:
            return


def _load_parsers() -> None:
    """Import the room before the first time limit; what fails here fails again with a file."""
    with contextlib.suppress(Exception):
        from chunkwise.rag.parsing import choose

        choose("a.txt", b"a")


def _send(replies: BinaryIO, message: bytes) -> None:
    replies.write(message)
    replies.flush()


def _work(
    name: str, path: str, known: str | None, max_bytes: int, memory_bytes: int
) -> tuple[bytes, bool]:
    """Do one job; the framed reply, and whether this process should end."""
    started = time.perf_counter()
    try:
        reply = _parse_file(name, path, known, max_bytes)
        is_last = reply.size_bytes > _MIB and _resident_bytes() > memory_bytes // 2
        seconds = time.perf_counter() - started
        return frame(reply._replace(seconds=seconds, is_last=is_last)), is_last
    except MemoryError:
        pass  # the reply is made below, where the frames that hold the memory are gone
    error = (
        f"needs more than {memory_bytes // _MIB} MiB of memory; raise `parse_memory_mb`, "
        "or split the file"
    )
    return frame(Reply(error=error, seconds=time.perf_counter() - started, is_last=True)), True


def _parse_file(name: str, path: str, known: str | None, max_bytes: int) -> Reply:
    from chunkwise.rag.parsing import parse

    try:
        data, status = _read(path, max_bytes)
    except _ReadError as error:
        return Reply(error=str(error))
    source_hash = hashlib.blake2b(data, digest_size=16).hexdigest()
    reply = Reply(None, None, source_hash, len(data), status.st_mtime_ns)
    if source_hash == known:
        return reply._replace(unchanged=True)
    try:
        return reply._replace(document=parse(data, name=name))
    except Exception as error:  # noqa: BLE001  (the border to code that reads hostile files)
        return reply._replace(error=_describe(error))


def _describe(error: Exception) -> str:
    """The error as a sentence, without the document's name. Lack of memory is raised again."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            raise MemoryError
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, DocumentError):
        return error.reason
    if isinstance(error, ChunkwiseError):
        return str(error)
    if isinstance(error, RecursionError):
        return "its contents are nested too deeply to be read"
    text = " ".join(str(error).split())[:200]
    return f"the parser failed on it ({type(error).__name__}: {text})"


class _ReadError(Exception):
    """A file that cannot be read; its text is the reason."""


def _read(path: str, max_bytes: int) -> tuple[bytes, os.stat_result]:
    """The bytes of a regular file that stayed the same while it was read, and its status."""
    for pause_s in (0.05, 0.0):
        try:
            data, before, after = _read_once(path, max_bytes)
        except OSError as error:
            raise _ReadError(_describe_os_error(error)) from error
        except ValueError as error:
            raise _ReadError(f"has a path that cannot be used ({error})") from error
        same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        if same and len(data) == after.st_size:
            return data, after
        time.sleep(pause_s)
    raise _ReadError("changed while it was read; try again when it is no longer written to")


def _read_once(path: str, max_bytes: int) -> tuple[bytes, os.stat_result, os.stat_result]:
    # Without O_NONBLOCK, opening a FIFO waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise _ReadError(f"is {_kind(before.st_mode)}, not a regular file")
        if before.st_size > max_bytes:
            raise _ReadError(
                f"has {before.st_size} bytes, more than the limit of {max_bytes}; "
                "raise `max_file_mb`"
            )
        data = os.read(descriptor, before.st_size + 1)
        while len(data) < before.st_size and (more := os.read(descriptor, before.st_size)):
            data += more  # some file systems, and reads past 2 GiB, give less than asked for
        return data, before, os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
    }
    return kinds.get(stat.S_IFMT(mode), "special")


def _describe_os_error(error: OSError) -> str:
    reasons = {
        errno.ENOENT: "is not there (moved or deleted since it was listed?)",
        errno.EACCES: "permission denied; give this user the right to read it",
        errno.EPERM: "permission denied; give this user the right to read it",
        errno.ENXIO: "is a socket or device, not a regular file",
        errno.ELOOP: "its symbolic links lead in a circle",
    }
    return reasons.get(error.errno or 0, f"cannot be read ({error.strerror})")


def _die_with(lifeline: int) -> None:
    """Have the kernel end this process when the parent's end of the pipe closes.

    The signal SIGIO, whose default is to end the process, works in the middle of C code that
    holds the interpreter's lock, where a watching thread would wait. (Linux's parent-death
    signal is no use: it is sent when the *thread* that started the process ends.)
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(lifeline, 0)
    if poll.poll(0):  # closed before the signal was armed
        sys.exit(1)


def _take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Streams for jobs and replies; what a parser itself reads or prints goes nowhere."""
    jobs, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    return jobs, replies


def _limit_memory(memory_bytes: int) -> None:
    """Limit what this process allocates.

    RLIMIT_DATA counts private writable memory and leaves out mapped libraries; RLIMIT_AS, set
    a little higher, is for kernels that count only the heap under RLIMIT_DATA.
    """
    for kind, limit in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_AS, memory_bytes + 1024**3),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(kind, (limit, limit))


def _resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    # Replies are pickled under the module's real name, which `__main__` is not.
    from chunkwise.rag.parsing import _child

    _child.main(*map(int, sys.argv[1:]))
