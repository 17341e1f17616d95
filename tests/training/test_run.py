"""Runs as people start, stop, kill and resume them: real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chunkwise.errors import CheckpointError, ConfigError, TrainingDataError
from chunkwise.training.run import Asked, run
from tests.rag.answering.readers import write_encoder
from tests.training.toys import write_span_data

STEPS = 60


class Place:
    """Data, a small encoder, and runs over them in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = write_span_data(folder / "data")
        self.base = write_encoder(folder / "base")

    def start(self, out: str, *more: str) -> subprocess.Popen[str]:
        """`chunkwise train reader` with these words."""
        return popen("-m", "chunkwise", "train", "reader", "--out", str(self.folder / out), *more)

    def new(self, out: str, *more: str, steps: int = STEPS) -> subprocess.Popen[str]:
        return self.start(out, *self.words(steps), *more)

    def words(self, steps: int) -> list[str]:
        """What starts a new run."""
        sets = f"datasets=squad2 batch_tokens=250 evaluate_every=0 save_every=7 base={self.base}"
        words = [word for pair in sets.split() for word in ("--set", pair)]
        return ["--data", str(self.data), "--steps", str(steps), "--dtype", "float32", *words]

    def wait_for(self, out: str, step: int, process: subprocess.Popen[str]) -> None:
        log = self.folder / out / "log.jsonl"
        deadline = time.monotonic() + 120
        while not log.exists() or log.read_text().count("\n") < step:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the run does not go on"
            time.sleep(0.005)


def popen(*words: str) -> subprocess.Popen[str]:
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("CHUNKWISE_")} | threads,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def unbroken(place: Place) -> bytes:
    """The weights of a run that nobody stopped."""
    process = place.new("unbroken")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, out + err
    return (place.folder / "unbroken" / "model" / "model.safetensors").read_bytes()


def test_a_killed_run_that_is_resumed_has_the_weights_of_an_unbroken_one(
    place: Place, unbroken: bytes
) -> None:
    process = place.new("killed")
    place.wait_for("killed", 25, process)
    process.kill()
    process.communicate()
    out = place.folder / "killed"
    assert not (out / "model").exists()
    assert any((out / "checkpoints").glob("step-*"))
    process = place.start("killed", "--resume")
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "Going on after step" in err
    assert (out / "model" / "model.safetensors").read_bytes() == unbroken
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "lr" in row] == list(range(1, STEPS + 1))


def test_a_run_that_was_broken_off_can_be_made_do_with_and_gone_on_with(
    place: Place, unbroken: bytes
) -> None:
    out = place.folder / "short"
    process = place.new("short")
    place.wait_for("short", 20, process)
    process.kill()
    process.communicate()
    made = run(Asked("reader", out, finish=True))
    assert made.is_finished
    assert made.model is not None
    card = json.loads((made.model / "card.json").read_text())
    assert 7 <= made.step == card["counts"]["steps"] < STEPS
    assert card["figures"] == made.figures
    assert (made.model / "model.safetensors").read_bytes() != unbroken
    assert run(Asked("reader", out, resume=True)).step == STEPS
    assert (out / "model" / "model.safetensors").read_bytes() == unbroken


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(place: Place, unbroken: bytes) -> None:
    process = place.new("stopped")
    place.wait_for("stopped", 5, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert "Stopped after step" in err
    assert f"chunkwise train reader --out {place.folder / 'stopped'} --resume" in err
    assert "Traceback" not in err
    process = place.start("stopped", "--resume")
    process.communicate(timeout=200)
    weights = place.folder / "stopped" / "model" / "model.safetensors"
    assert weights.read_bytes() == unbroken


def test_a_resumed_run_keeps_what_it_was_started_with(place: Place, unbroken: bytes) -> None:
    assert unbroken
    out = place.folder / "unbroken"
    with pytest.raises(CheckpointError, match="is a run with `seed` 0, not 9"):
        run(Asked("reader", out, seed=9, resume=True))
    with pytest.raises(CheckpointError, match=f"is a run with `steps` {STEPS}, not 9"):
        run(Asked("reader", out, steps=9, resume=True))
    with pytest.raises(ConfigError, match="holds a run of 'reader' already: go on with --resume"):
        run(Asked("reader", out, data=place.data))
    settings = out / "run.json"
    before = settings.read_text()
    changed = json.loads(before)
    changed["options"]["lr"] = 0.5
    settings.write_text(json.dumps(changed))
    with pytest.raises(CheckpointError, match="is of another run: `plan` was"):
        run(Asked("reader", out, resume=True))
    settings.write_text("no")
    with pytest.raises(CheckpointError, match=r"run\.json cannot be read"):
        run(Asked("reader", out, resume=True))
    settings.write_text(before)


@pytest.mark.slow
def test_other_data_than_the_run_was_started_with_is_refused(
    place: Place, unbroken: bytes, tmp_path: Path
) -> None:
    assert unbroken
    other = write_span_data(tmp_path / "other", seed=5)
    with pytest.raises(CheckpointError, match="`data` was"):
        run(Asked("reader", place.folder / "unbroken", data=other, resume=True))


def test_a_run_that_cannot_start_makes_no_folder(place: Place) -> None:
    out = place.folder / "nothing"
    with pytest.raises(ConfigError, match="holds no run to resume"):
        run(Asked("reader", out, resume=True))
    with pytest.raises(ConfigError, match="holds no checkpoint"):
        run(Asked("reader", out, finish=True))
    with pytest.raises(ConfigError, match="name the data folder with --data"):
        run(Asked("reader", out))
    with pytest.raises(ConfigError, match="`dtype` must be one of auto, float32, bfloat16"):
        run(Asked("reader", out, data=place.data, dtype="f8"))
    with pytest.raises(TrainingDataError, match="no such data folder"):
        run(Asked("reader", out, data=place.folder / "nowhere"))
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["raeder"], "has no 'raeder'. Did you mean 'reader'?"),
        (["reader", "--set", "lrr=1"], "no option 'lrr'. Did you mean 'lr'?"),
        (["reader", "--set", "lr=x"], "`lr` must be a number, got 'x'"),
        (["reader", "--set", "trains_words=1"], "must be true or false"),
    ],
)
def test_wrong_words_are_named(words: list[str], message: str) -> None:
    from typer.testing import CliRunner

    from chunkwise.cli import training
    from chunkwise.cli.app import app

    assert training
    done = CliRunner().invoke(app, ["train", *words])
    assert isinstance(done.exception, ConfigError)
    assert message in str(done.exception)


FULL = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
sys.argv[0] = "chunkwise"
runpy.run_module("chunkwise", run_name="__main__")
"""


def test_a_full_disk_ends_the_run_and_names_the_checkpoint(place: Place) -> None:
    out = str(place.folder / "full")
    process = popen("-c", FULL, "train", "reader", "--out", out, *place.words(3))
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1, err
    assert "the checkpoint of step 3 cannot be written" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_budget_sets_the_steps(place: Place) -> None:
    process = place.new("budget", "--budget-minutes", "0.1", steps=100_000)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "of 100000 steps fit the budget" in err
    assert "Traceback" not in err
