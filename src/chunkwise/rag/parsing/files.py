"""Which files to parse: files and folders expanded to jobs, what cannot be taken reported."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from chunkwise.rag.parsing.base import parsers
from chunkwise.rag.parsing.worker import Job

_SNIFFED_BYTES = 4096
_NO_PARSER = "no parser takes binary"


class Skipped(NamedTuple):
    """A file or folder that is not taken, and why, in words for the user.

    Attributes:
        name: How it is called.
        error: Why it is not taken.
        is_unsupported: It is a binary file of a kind no parser takes, met inside a folder: left
            alone as expected, and no failure.
    """

    name: str
    error: str
    is_unsupported: bool = False


def document_name(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> str:
    """What the document at a path is called, with forward slashes.

    Args:
        path: Where it is.
        root: Inside this folder the name is relative to it, elsewhere absolute, so that it does
            not depend on where we are. None: the path as given, normalised.
    """
    if root is None:
        return os.path.normpath(path).replace(os.sep, "/")
    absolute, base = os.path.abspath(path), os.path.realpath(root)
    # Links in the folders above must not give one file two names; a link itself has its own.
    head, last = os.path.split(absolute)
    real = os.path.join(os.path.realpath(head), last)
    inside = next((p for p in (absolute, real) if os.path.commonpath([p, base]) == base), None)
    name = absolute if inside is None else os.path.relpath(inside, base)
    return name.replace(os.sep, "/")


def walk(
    paths: Iterable[str | os.PathLike[str]],
    *,
    root: str | os.PathLike[str] | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    leave_out: Iterable[str | os.PathLike[str]] = (),
) -> Iterator[Job | Skipped]:
    """Expand files and folders, recursively and in sorted order.

    Documents are named by `document_name`: without a `root`, `./docs` gives `docs/a.md`.
    Hidden files and folders inside a given folder are passed over. Symbolic links are followed;
    each real folder is visited once. A name is given out once.

    Patterns are globs (`*` also matches `/`) and match a file's name, its path inside the given
    folder, or its last part; `exclude` matches folders too. A file given itself is always taken.

    Args:
        paths: Files and folders.
        root: What names are relative to; None: as given.
        include: Files of folders must match one of these; empty: all do.
        exclude: Files and folders that match one of these are passed over.
        leave_out: Folders never entered, such as the corpus itself.
    """
    walker = _Walker(root, include, exclude, leave_out)
    names: set[str] = set()
    for path in paths:
        for item in walker.expand(os.fspath(path)):
            if item.name not in names:
                names.add(item.name)
                yield item


class _Walker:
    def __init__(
        self,
        root: str | os.PathLike[str] | None,
        include: Sequence[str],
        exclude: Sequence[str],
        leave_out: Iterable[str | os.PathLike[str]],
    ) -> None:
        self._name_root, self._include, self._exclude = root, include, exclude
        self._left_out = {os.path.realpath(path) for path in leave_out}
        self._visited: set[tuple[int, int]] = set()  # device and inode of folders
        self._suffixes = {s for name in _parser_names() for s in parsers.load(name).suffixes}

    def expand(self, path: str) -> Iterator[Job | Skipped]:
        """What a given file or folder comes to."""
        given = os.path.normpath(path)
        name = document_name(given, self._name_root)
        try:
            mode = os.stat(given).st_mode
        except OSError as error:
            yield _skipped(name, _reason(error))
            return
        if not stat.S_ISDIR(mode):
            yield self._file(given, name, mode)
            return
        for inner, outcome in self._expand_folder(given):
            inner_name = document_name(inner, self._name_root)
            if isinstance(outcome, int):
                item = self._file(inner, inner_name, outcome)
                yield item if isinstance(item, Job) else self._met(item)
            else:
                yield _skipped(inner_name, _reason(outcome))

    def _expand_folder(self, given: str) -> Iterator[tuple[str, int | OSError]]:
        """Paths of wanted files with their modes, or with what is wrong with them."""
        # A stack, not recursion: folders can be nested deeper than Python's calls.
        stack = [given]
        while stack:
            path = stack.pop()
            try:
                mode = os.stat(path).st_mode
                if not stat.S_ISDIR(mode):
                    if self._is_wanted(path, given):
                        yield path, mode
                elif self._enter(path, given):
                    stack += sorted(self._visible(path), reverse=True)
            except OSError as error:
                if self._is_wanted(path, given):
                    yield path, error

    def _visible(self, folder: str) -> list[str]:
        with os.scandir(folder) as entries:
            shown = [entry.name for entry in entries if not entry.name.startswith(".")]
        return [os.path.join(folder, name) if folder != "." else name for name in shown]

    def _enter(self, path: str, root: str) -> bool:
        """Whether to list a folder; notes that it was."""
        real = os.path.realpath(path)
        if real in self._left_out or (path != root and self._is_excluded(path, root)):
            return False
        if os.path.islink(path) and path != root and _is_related(real, os.path.realpath(root)):
            return False  # inside: met under its own name; around: never asked for
        status = os.stat(path)
        key = (status.st_dev, status.st_ino)
        is_new = key not in self._visited
        self._visited.add(key)
        return is_new

    def _met(self, item: Skipped) -> Skipped:
        """A file met inside a folder that no parser takes is no failure."""
        return item._replace(is_unsupported=item.error.startswith(_NO_PARSER))

    def _file(self, path: str, name: str, mode: int) -> Job | Skipped:
        if not stat.S_ISREG(mode):
            return _skipped(name, "not a regular file")
        try:
            name.encode()
        except UnicodeEncodeError:
            return _skipped(name, "its name is not valid Unicode; rename it")
        suffix = os.path.splitext(name)[1].lower()
        if suffix not in self._suffixes and _is_binary(path):
            kind = f"files ending in {suffix!r}" if suffix else "files without a suffix"
            return _skipped(name, f"{_NO_PARSER} {kind}")
        return Job(name, path)

    def _is_wanted(self, path: str, root: str) -> bool:
        is_included = not self._include or _matches(path, root, self._include)
        return is_included and not self._is_excluded(path, root)

    def _is_excluded(self, path: str, root: str) -> bool:
        return _matches(path, root, self._exclude)


def _parser_names() -> list[str]:
    return [*parsers.own, *parsers.installed]


def _is_related(one: str, other: str) -> bool:
    return os.path.commonpath([one, other]) in (one, other)


def _matches(path: str, root: str, patterns: Sequence[str]) -> bool:
    inside = os.path.relpath(path, root)
    forms = [form.replace(os.sep, "/") for form in (path, inside, os.path.basename(path))]
    return any(fnmatchcase(form, pattern) for pattern in patterns for form in forms)


def _is_binary(path: str) -> bool:
    """Whether a file of unknown kind holds a zero byte near its start and is no UTF-16 or -32."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # the worker says what is wrong with it
    try:
        start = os.read(descriptor, _SNIFFED_BYTES)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return b"\0" in start and not start.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff"))


def _skipped(name: str, error: str) -> Skipped:
    return Skipped(name.encode("utf-8", "backslashreplace").decode(), error)


def _reason(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "permission denied; give this user the right to read it"
    if isinstance(error, FileNotFoundError):
        return "is not there"
    return f"cannot be read ({error.strerror})"
