"""What happened in a run: one JSON object a line, cut back when a run goes on from a checkpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chunkwise.errors import TrainingError


class RunLog:
    """Rows of `log.jsonl`; each has a `step`.

    Args:
        path: The file; made by the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row at the end.

        Raises:
            TrainingError: It cannot be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as exc:
            raise TrainingError(f"{self.path}: cannot be written: {exc.strerror}.") from exc

    def rows(self) -> list[dict[str, Any]]:
        """All rows; a last line that was cut off by a kill is left out."""
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return [row for row in rows if isinstance(row, dict) and "step" in row]

    def cut_back(self, step: int) -> None:
        """Drop the rows of steps after `step`: they are done again."""
        kept = [json.dumps(row) + "\n" for row in self.rows() if row["step"] <= step]
        written = self.path.with_suffix(".tmp")
        try:
            written.write_text("".join(kept), encoding="utf-8")
            os.replace(written, self.path)
        except OSError as exc:
            raise TrainingError(f"{self.path}: cannot be written: {exc.strerror}.") from exc
