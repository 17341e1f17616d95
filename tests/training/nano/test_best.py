"""Which weights of a run are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from chunkwise.training.nano.best import Best
from chunkwise.training.nano.history import Measured
from chunkwise.training.nano.network import Llama, Shape


def test_questions_count_and_not_kinds(tmp_path: Path) -> None:
    lucky = {"one_hop": 0.5, "copy": 1.0, "counting": 1.0, "all": 0.52}
    better = {"one_hop": 0.9, "copy": 0.0, "counting": 0.5, "all": 0.88}
    assert kept_step(tmp_path, lucky, better) == 2


def test_reused_chunks_count_as_much_as_the_rest(tmp_path: Path) -> None:
    assert kept_step(tmp_path, {"all": 0.90, "reused": 0.80}, {"all": 0.88, "reused": 0.90}) == 2
    assert kept_step(tmp_path, {"all": 0.90, "reused": 0.90}, {"all": 0.92, "reused": 0.80}) == 1


def test_less_loss_of_text_is_better(tmp_path: Path) -> None:
    assert kept_step(tmp_path, {"text_loss": 3.0}, {"text_loss": 2.0}) == 2


@pytest.mark.parametrize("last", [0.7, 0.9])
def test_the_weights_of_the_best_step_come_back(tmp_path: Path, last: float) -> None:
    expected = 1.0 if last < 0.8 else 2.0
    assert kept_weight(tmp_path, {"all": 0.8}, {"all": last}) == expected


def kept_step(folder: Path, *figures: Mapping[str, float]) -> int | None:
    return taken(folder, *figures)[0]


def kept_weight(folder: Path, *figures: Mapping[str, float]) -> float:
    return float(taken(folder, *figures)[1].words.weight[0, 0].detach())


def taken(folder: Path, *figures: Mapping[str, float]) -> tuple[int | None, Llama]:
    """The step that is kept of steps 1, 2 ..., whose weights are their numbers."""
    model, best, rows = Llama(Shape(8, 16, 1, 2, 1), 16), Best(folder), []
    for step, measured in enumerate(figures, start=1):
        with torch.no_grad():
            model.words.weight.fill_(step)
        rows.append(Measured(step, 0, measured, False))
        best.offer(model, rows[-1], rows)
    return best.take(model, rows, 0), model
