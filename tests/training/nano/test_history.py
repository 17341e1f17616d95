"""Stages end by accuracy or by their share, and a run that goes on knows where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from chunkwise.errors import CheckpointError
from chunkwise.training.nano.history import History, Measured, Place
from chunkwise.training.nano.stages import STAGES, Stage

THREE = (
    Stage("a", 0.2, goals={"copy": 0.9}),
    Stage("b", 0.3, goals={"copy": 0.9}),
    Stage("c", 1.0),
)


def test_a_stage_ends_with_its_share_of_the_steps(tmp_path: Path) -> None:
    history = History(tmp_path / "stages.json", THREE, 100)
    assert history.place(19) == Place(0, 19)
    assert history.place(20) == Place(1, 0)
    assert history.place(50) == Place(2, 0)
    assert history.place(10_000).stage == 2


def test_a_stage_ends_early_when_its_goals_are_reached(tmp_path: Path) -> None:
    history = History(tmp_path / "stages.json", THREE, 100)
    history.add(Measured(5, 0, {"copy": 0.5}, THREE[0].is_reached({"copy": 0.5})))
    assert history.place(6).stage == 0
    history.add(Measured(10, 0, {"copy": 0.9}, THREE[0].is_reached({"copy": 0.9})))
    assert history.place(9).stage == 0
    assert history.place(10) == Place(1, 0)
    assert history.place(39).stage == 1
    assert history.place(40).stage == 2


def test_what_came_after_a_checkpoint_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "stages.json"
    history = History(path, THREE, 100)
    history.add(Measured(10, 0, {"copy": 1.0}, True))
    history.add(Measured(15, 1, {"copy": 1.0}, True))
    assert history.place(15).stage == 2
    again = History(path, THREE, 100)
    again.forget_after(12)
    assert again.has(10)
    assert not again.has(15)
    assert History(path, THREE, 100).place(15) == Place(1, 5)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "stages.json"
    path.write_text("[{")
    with pytest.raises(CheckpointError, match=r"stages\.json"):
        History(path, THREE, 100)


def test_the_shares_leave_room_for_the_last_stage() -> None:
    assert sum(stage.share for stage in STAGES[:-1]) < 0.9
    assert STAGES[-1].share == 1.0
