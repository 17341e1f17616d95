"""What was measured, on disk: a JSON line for each finished run of questions of a configuration."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chunkwise.errors import StoreError

logger = logging.getLogger(__name__)

Row = Mapping[str, float]


class Journal:
    """Rows that survive `kill -9`: each line is on disk before the next question is asked.

    A line holds the key of a configuration over some documents, how large its corpus is, and rows
    of measures by the key of a question. A line that a killed run left half is dropped with a
    warning.

    Args:
        path: The file; made by the first line.

    Raises:
        StoreError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, dict[str, Row]] = {}
        self._sizes: dict[str, Mapping[str, float]] = {}
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as exc:
            raise StoreError(f"{path}: cannot be read: {exc.strerror}.") from exc
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            logger.warning("%s: its last line is not whole and is measured again", path)
            with self._naming():
                os.truncate(path, len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            self._take(line, number)

    def rows(self, key: str) -> Mapping[str, Row]:
        """Rows of a configuration, by question."""
        return self._rows.get(key, {})

    def sizes(self, key: str) -> Mapping[str, float]:
        """How large a configuration's corpus was."""
        return self._sizes.get(key, {})

    def append(
        self,
        key: str,
        rows: Mapping[str, Row],
        sizes: Mapping[str, float],
        about: Mapping[str, Any],
    ) -> None:
        """Keep rows of some questions.

        Args:
            key: The configuration's.
            rows: By question.
            sizes: How large its corpus is.
            about: What a reader of the file wants to know; not read again.

        Raises:
            StoreError: The file cannot be written.
        """
        line = {"key": key, **about, "sizes": dict(sizes), "rows": rows}
        with self._naming(), self.path.open("ab") as file:
            file.write(json.dumps(line, ensure_ascii=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._remember(line)

    def _take(self, raw: bytes, number: int) -> None:
        try:
            line = json.loads(raw)
            self._remember(line)
        except (ValueError, TypeError, KeyError, AttributeError):
            logger.warning("%s: line %d is damaged and is measured again", self.path, number)

    def _remember(self, line: Mapping[str, Any]) -> None:
        rows = {str(question): dict(row) for question, row in line["rows"].items()}
        self._sizes[line["key"]] = dict(line["sizes"])
        self._rows.setdefault(line["key"], {}).update(rows)

    @contextlib.contextmanager
    def _naming(self) -> Any:
        try:
            yield
        except OSError as exc:
            raise StoreError(f"{self.path}: cannot be written: {exc.strerror}.") from exc
