"""Where a run stands in the curriculum: what was measured at which step, kept beside checkpoints.

The file is part of the state of a run. A checkpoint of step n goes with the rows up to n, and
what was measured later is measured again, so that a run that goes on ends as an unbroken one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from chunkwise.errors import CheckpointError, TrainingError
from chunkwise.training.nano.stages import Stage


@dataclass(frozen=True, slots=True)
class Measured:
    """Accuracy after some steps.

    Attributes:
        step: Steps done.
        stage: Index of the stage that they belong to.
        figures: Accuracy by kind and of all together, on fresh validation questions of that stage;
            `reused`: over reused chunks.
        is_reached: Whether they ended the stage.
    """

    step: int
    stage: int
    figures: Mapping[str, float]
    is_reached: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A step's place in the curriculum.

    Attributes:
        stage: Index of its stage.
        since: Steps since the stage began.
    """

    stage: int
    since: int


class History:
    """What was measured so far; decides which stage a step belongs to.

    Args:
        path: The file; made by the first row.
        stages: The curriculum.
        steps: Steps that the shares of the stages are taken of.

    Raises:
        CheckpointError: The file is there and cannot be read.
    """

    def __init__(self, path: Path, stages: Sequence[Stage], steps: int) -> None:
        self.path, self.stages, self.steps = path, stages, steps
        self.rows = self._read()

    def place(self, step: int) -> Place:
        """Where step `step` (from 0) belongs, by what was measured up to it."""
        stage, start = 0, 0
        reached = {row.stage: row.step for row in self.rows if row.is_reached}
        while stage + 1 < len(self.stages):
            end = start + max(1, round(self.stages[stage].share * self.steps))
            end = min(end, reached.get(stage, end))
            if step < end:
                break
            stage, start = stage + 1, end
        return Place(stage, step - start)

    def has(self, step: int) -> bool:
        """Whether something was measured after exactly `step` steps."""
        return any(row.step == step for row in self.rows)

    def add(self, row: Measured) -> None:
        """Keep a row.

        Raises:
            TrainingError: It cannot be written.
        """
        self._write([*(kept for kept in self.rows if kept.step != row.step), row])

    def forget_after(self, step: int) -> None:
        """Drop what was measured after `step` steps: it belongs to steps that are done again."""
        kept = [row for row in self.rows if row.step <= step]
        if len(kept) < len(self.rows):
            self._write(kept)

    def _read(self) -> list[Measured]:
        if not self.path.exists():
            return []
        try:
            return [Measured(**row) for row in json.loads(self.path.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError) as exc:
            raise CheckpointError(
                f"{self.path} cannot be read: {exc}. Start anew with another --out."
            ) from exc

    def _write(self, rows: list[Measured]) -> None:
        part = self.path.with_suffix(".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
            os.replace(part, self.path)
        except OSError as exc:
            raise TrainingError(f"{self.path}: cannot be written: {exc.strerror}.") from exc
        self.rows = rows
