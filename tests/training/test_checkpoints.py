"""Checkpoints: whole or not at all, the last two, and a full disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from chunkwise.errors import CheckpointError
from chunkwise.training.checkpoints import Checkpoint, Checkpoints


def made(step: int) -> Checkpoint:
    return Checkpoint(
        step, {"w": torch.full((4, 3), float(step))}, {"seed": 1}, {"tokens": 7 * step}
    )


def test_what_is_saved_is_loaded_and_the_last_two_are_kept(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "c")
    assert kept.load() is None
    for step in (3, 10, 200):
        kept.save(made(step))
    assert kept.steps() == [10, 200]
    loaded = kept.load()
    assert loaded is not None
    assert (loaded.step, loaded.identity, loaded.progress) == (200, {"seed": 1}, {"tokens": 1400})
    assert torch.equal(loaded.tensors["w"], made(200).tensors["w"])


@pytest.mark.parametrize("file", ["state.safetensors", "checkpoint.json"])
def test_a_damaged_one_is_passed_over_and_said(
    file: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(made(1))
    place = kept.save(made(2))
    content = (place / file).read_bytes()
    (place / file).write_bytes(content[:-9] + b"x" * 9)
    loaded = kept.load()
    assert loaded is not None
    assert loaded.step == 1
    assert str(place) in caplog.text


def test_when_all_are_damaged_it_is_an_error(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    (kept.save(made(1)) / "state.safetensors").unlink()
    with pytest.raises(CheckpointError, match="another --out"):
        kept.load()


def test_what_a_kill_left_half_written_is_no_checkpoint(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(made(1))
    (tmp_path / "step-00000002.part").mkdir()
    (tmp_path / "step-00000002.part" / "state.safetensors").write_bytes(b"half")
    assert kept.steps() == [1]
    kept.save(made(2))
    assert kept.steps() == [1, 2]


FULL = """
import resource, sys, torch
from pathlib import Path
from chunkwise.errors import CheckpointError
from chunkwise.training.checkpoints import Checkpoint, Checkpoints
kept = Checkpoints(Path(sys.argv[1]))
kept.save(Checkpoint(1, {"w": torch.ones(100)}, {}, {}))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    kept.save(Checkpoint(2, {"w": torch.ones(1_000_000)}, {}, {}))
except CheckpointError as exc:
    print(exc)
"""


def test_a_full_disk_leaves_the_one_before(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "step 2 cannot be written: " in done.stdout
    assert "It takes 4 MB" in done.stdout
    assert "The checkpoint of step 1 is whole: make room and go on with --resume" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    loaded = Checkpoints(tmp_path).load()
    assert loaded is not None
    assert torch.equal(loaded.tensors["w"], torch.ones(100))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="Make room and start again"):
        Checkpoints(tmp_path / "file").save(made(1))
