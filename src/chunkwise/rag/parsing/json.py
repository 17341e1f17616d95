"""JSON and JSON Lines as readable text: `key: value` lines, and tables for lists of records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing.base import DocumentBuilder
from chunkwise.rag.parsing.encodings import decode
from chunkwise.types import Document

__all__ = ["JsonParser"]

_LINE_SUFFIXES = (".jsonl", ".ndjson")
_MAX_WARNINGS = 20
_MIN_TABLE_ROWS = 2


@dataclass(frozen=True)
class JsonParser:
    """One paragraph an object; the path of a nested value stands before it."""

    suffixes: ClassVar[tuple[str, ...]] = (".json", *_LINE_SUFFIXES, ".geojson")

    def parse(self, data: bytes, *, name: str) -> Document:
        """Parse a whole file.

        Raises:
            DocumentError: It is no JSON, or nested too deep.
        """
        text = decode(data, name=name)
        writer = _Writer(DocumentBuilder(name))
        try:
            if name.lower().endswith(_LINE_SUFFIXES):
                _read_lines(text, name, writer)
            else:
                _read_whole(text, name, writer)
        except RecursionError as exc:
            raise DocumentError(name, "is nested too deep to be read; flatten it.") from exc
        return writer.builder.build()


def _read_whole(text: str, name: str, writer: _Writer) -> None:
    try:
        writer.write(_DECODER.decode(text), "")
    except json.JSONDecodeError as exc:
        lines = [line for line in text.split("\n") if line.strip()]
        if len(lines) > 1 and all(_is_record(line) for line in lines[:3]):
            _read_lines(text, name, writer)  # JSON Lines under the name .json
            return
        raise DocumentError(name, f"is not valid JSON: {exc}.") from exc


def _is_record(line: str) -> bool:
    try:
        return isinstance(_DECODER.decode(line), dict | list)
    except json.JSONDecodeError:
        return False


def _read_lines(text: str, name: str, writer: _Writer) -> None:
    bad: list[str] = []
    good = 0
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = _DECODER.decode(line)
        except (json.JSONDecodeError, RecursionError) as exc:
            bad.append(f"Line {number} is not valid JSON and was left out: {exc}.")
            continue
        good += 1
        writer.write_record(record)
    if bad and not good:
        raise DocumentError(name, f"holds no line of valid JSON. {bad[0]}")
    writer.builder.warnings += bad[:_MAX_WARNINGS]
    if len(bad) > _MAX_WARNINGS:
        writer.builder.warnings.append(f"{len(bad) - _MAX_WARNINGS} more lines were left out.")


class _Number(str):
    """A number as it is written: no rounding, no limit on its digits."""

    __slots__ = ()


_DECODER = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_Number)


class _Writer:
    """Collects lines into paragraphs."""

    def __init__(self, builder: DocumentBuilder) -> None:
        self.builder = builder
        self.lines: list[str] = []

    def write(self, value: Any, path: str) -> None:
        """Write a value and all in it; each object of a list is a paragraph of its own."""
        if isinstance(value, list) and _is_table(value):
            self._table(value, path)
            return
        if isinstance(value, list) and any(_is_nested(v) for v in value):
            for i, item in enumerate(value):
                self.flush()
                self.write(item, f"{path}[{i}]" if path else "")
        elif isinstance(value, dict) and value:
            for key, item in value.items():
                if not path and _is_nested(item):
                    self.flush()
                self.write(item, f"{path}.{key}" if path else str(key))
        else:
            self.lines.append(f"{path}: {_scalar(value)}".rstrip() if path else _scalar(value))
        if not path:
            self.flush()

    def write_record(self, value: Any) -> None:
        """Write a value as one paragraph."""
        self.lines += (f"{p}: {t}".rstrip() if p else t for p, t in _leaves(value, ""))
        self.flush()

    def flush(self) -> None:
        """End the paragraph."""
        self.builder.add("paragraph", "\n".join(self.lines))
        self.lines.clear()

    def _table(self, records: list[dict[str, Any]], path: str) -> None:
        self.flush()
        self.builder.add("caption", path)
        keys = list(records[0])
        rows = [keys, *([_scalar(record[key]) for key in keys] for record in records)]
        self.builder.add_table(rows, header_rows=1)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(_is_nested(v) for v in value):
        for i, item in enumerate(value):
            yield from _leaves(item, f"{path}[{i}]")
    else:
        yield path, _scalar(value)


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict | list) and bool(value)


def _is_table(values: list[Any]) -> bool:
    """Whether these are flat objects with the same keys."""
    if len(values) < _MIN_TABLE_ROWS or not all(isinstance(v, dict) and v for v in values):
        return False
    keys = values[0].keys()
    return all(v.keys() == keys and not any(map(_is_nested, v.values())) for v in values)


def _scalar(value: Any) -> str:
    """Text of a value that holds no objects: strings as they are, lists with commas."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list):
        return ", ".join(map(_scalar, value))
    if isinstance(value, dict):
        return ""
    return {True: "true", False: "false", None: "null"}[value]
