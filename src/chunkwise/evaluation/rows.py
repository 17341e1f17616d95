"""Lines of JSON in and out: every complaint names file and line, no file is left half written."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from chunkwise.errors import ConfigError, DocumentError

_GZIP: Final = b"\x1f\x8b"


class Line(NamedTuple):
    """A JSON object of a file, and where it stands; its readers refuse what is of another type."""

    file: str
    number: int
    values: Mapping[str, Any]

    def fails(self, reason: str) -> DocumentError:
        """The error that says what is wrong with this line."""
        return DocumentError(f"{self.file}, line {self.number}", reason)

    def text(self, key: str, default: str | None = None) -> str:
        """The text at `key`; where there is no such key, the default if there is one."""
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self.fails(f"`{key}` must be text, got {_shown(value)}.")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """The list of texts at `key`."""
        value = self._value(key)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.fails(f"`{key}` must be a list of texts, got {_shown(value)}.")
        return tuple(value)

    def number_at(self, key: str) -> float:
        """The finite number, or the truth value as 0 or 1, at `key`."""
        value = self._value(key)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise self.fails(f"`{key}` must be a number, got {_shown(value)}.")
        return float(value)

    def id(self) -> str:
        """What the line calls itself; its number in the file where it has no `id`."""
        value = self.values.get("id", self.number)
        if not isinstance(value, str) and type(value) is not int:
            raise self.fails(f"`id` must be text or a whole number, got {_shown(value)}.")
        return str(value)

    def _value(self, key: str, default: str | None = None) -> Any:
        if key in self.values or default is not None:
            return self.values.get(key, default)
        raise self.fails(f"has no `{key}`; it has: {', '.join(self.values) or 'nothing'}.")


def read_lines(path: str | os.PathLike[str]) -> Iterator[Line]:
    """The objects of a file with one JSON object a line, gzipped or not; blank lines are none.

    Raises:
        DocumentError: The file cannot be read or holds no line, or a line is no JSON object.
    """
    name, is_empty = os.fspath(path), True
    try:
        with _opened(name) as file:
            for number, raw in enumerate(file, start=1):
                if raw.strip():
                    is_empty = False
                    yield Line(name, number, _parsed(raw, name, number))
    except (OSError, EOFError, zlib.error) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise DocumentError(name, f"cannot be read: {reason}.") from exc
    if is_empty:
        raise DocumentError(name, "is empty; it must hold one JSON object a line.")


@contextlib.contextmanager
def writing_rows(path: str | os.PathLike[str]) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A function that writes a row. The file is there when all rows are, else it is as it was.

    Raises:
        ConfigError: The file cannot be written; said before the first row where that is known.
    """
    with _naming(path):
        target = Path(path).resolve()
        if target.exists() and not target.is_file():
            raise ConfigError(f"{os.fspath(path)!r} cannot be written: it is there and no file.")
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        file = part.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")

    def write(row: Mapping[str, Any]) -> None:
        with _naming(path):
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")

    try:
        try:
            yield write
            with _naming(path):
                file.flush()
                os.fsync(file.fileno())
        finally:
            with contextlib.suppress(OSError):  # what could not be written was said above
                file.close()
        with _naming(path):
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ConfigError(
            f"{os.fspath(path)!r} cannot be written: {exc.strerror}. Name a file in a folder that "
            "is there and has room."
        ) from exc


@contextlib.contextmanager
def _opened(name: str) -> Iterator[Iterable[bytes]]:
    """The lines of a file, opened once: it may be a pipe."""
    with open(name, "rb") as file:
        if file.peek(len(_GZIP)).startswith(_GZIP):
            with gzip.open(file) as unzipped:
                yield unzipped
        else:
            yield file


def _parsed(raw: bytes, name: str, number: int) -> dict[str, Any]:
    place = f"{name}, line {number}"
    try:
        value = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        raise DocumentError(place, "is no UTF-8 text.") from exc
    except (ValueError, RecursionError) as exc:
        raise DocumentError(place, f"is no JSON: {getattr(exc, 'msg', exc)}.") from exc
    if not isinstance(value, dict):
        raise DocumentError(place, f"must be a JSON object, got {_shown(value)}.")
    return value


def _shown(value: object, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"
