"""The best weights of a run, kept beside its checkpoints, for the model that is shipped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from chunkwise.errors import CheckpointError, TrainingError
from chunkwise.training.nano.history import Measured
from chunkwise.training.nano.network import Llama


class Best:
    """Weights of the last stage with the best figures.

    Args:
        folder: Where they are kept; there when something is offered.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def offer(self, model: Llama, measured: Measured, rows: Sequence[Measured]) -> None:
        """Keep the weights if they are better than those kept before.

        Args:
            model: The weights.
            measured: How good they are.
            rows: All that was measured.

        Raises:
            TrainingError: They cannot be written.
        """
        kept = self._kept(rows, measured.stage)
        if kept is not None and kept.step != measured.step and _score(kept) >= _score(measured):
            return
        path = self._path(measured.step)
        tensors = {name: t.detach().cpu() for name, t in model.state_dict().items()}
        try:
            save_file(tensors, str(path))
        except (OSError, SafetensorError) as exc:
            raise TrainingError(f"{path}: the weights cannot be written: {exc}.") from exc
        for old in self.folder.glob("best-*.safetensors"):
            if old != path:
                old.unlink()

    def take(self, model: Llama, rows: Sequence[Measured], last_stage: int) -> int | None:
        """Put the best weights into the model; the step they are of, None if there are none.

        Args:
            model: Whose weights are replaced.
            rows: What was measured.
            last_stage: Index of the stage that counts.

        Raises:
            CheckpointError: They cannot be read.
        """
        best = self._kept(rows, last_stage)
        if best is None:
            return None
        path = self._path(best.step)
        try:
            model.load_state_dict(load_file(str(path)))
        except (OSError, SafetensorError, RuntimeError) as exc:
            raise CheckpointError(
                f"{path} cannot be read: {exc}. Delete it to ship the last weights."
            ) from exc
        return best.step

    def _kept(self, rows: Sequence[Measured], stage: int) -> Measured | None:
        mine = [row for row in rows if row.stage == stage and self._path(row.step).exists()]
        return max(mine, key=_score, default=None)

    def _path(self, step: int) -> Path:
        return self.folder / f"best-{step:08d}.safetensors"


def _score(measured: Measured) -> float:
    """Of all questions, not of kinds: of some kinds a measurement has one or two questions."""
    figures = measured.figures
    if "all" not in figures:  # the stage reads text
        return -figures.get("text_loss", 0.0)
    return (figures["all"] + figures.get("reused", figures["all"])) / 2
