"""`chunkwise tune` in real processes: table, files, JSON, errors, and going on after `kill -9`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from tests.cli.test_commands import HASHING, parsed, process, run
from tests.tuning.test_tune import THINGS
from tests.tuning.test_tune import write as write_documents

SPACE = "size = [12, 24, 48]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepared(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("shared"))


def prepared(tmp_path: Path) -> Path:
    cases = write_documents(tmp_path)
    lines = [
        {
            "question": case.question,
            "references": [
                {"document": place.document, "start": place.span.start, "end": place.span.end}
                for place in case.references
            ],
        }
        for case in cases
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "space.toml").write_text(SPACE)
    names = [f"{thing}.txt" for thing in THINGS]
    cut = ("--size", "96", "--counter", "words", *HASHING)
    run("add", *names, "--corpus", "c", *cut, cwd=tmp_path)
    return tmp_path


TUNE = (
    "tune",
    "q.jsonl",
    "-c",
    "c",
    "--space",
    "space.toml",
    "--metric",
    "iou",
    "-s",
    "passages=2",
)


def test_a_table_a_plot_a_recipe_and_the_questions_that_change(folder: Path) -> None:
    shown = run(*TUNE, "--recipe", "best.toml", cwd=folder)
    assert "present settings" in shown
    assert "iou (up) against index_bytes" in shown
    assert "won 0." in shown
    assert "Better than the present settings by +" in shown
    recipe = (folder / "best.toml").read_text()
    size = tomllib.loads(recipe)["size"]
    assert size in (12, 24)
    assert recipe.startswith("# ")
    assert f"chunkwise recipe add tuned -c c --set size={size}" in shown
    found = parsed(*TUNE, "--cost", "sent_tokens", cwd=folder)
    assert found["recommended"] == {"size": size}
    assert found["outcome"] in ("clear", "better")
    assert found["finished"]
    assert len(found["standings"]) == 4
    assert found["questions"] == 32
    assert {"settings", "value", "gain", "ms", "chunks"} <= set(found["standings"][0])
    assert run("ls", "-c", "c", cwd=folder)


def test_the_plot_as_a_picture(shared: Path) -> None:
    pytest.importorskip("PIL")
    run(*TUNE, "--plot", "p.png", cwd=shared)
    assert (shared / "p.png").read_bytes().startswith(b"\x89PNG")


def test_no_difference_is_said_and_the_present_settings_stay(folder: Path) -> None:
    (folder / "space.toml").write_text("context_tokens = [16, 0]\n")
    shown = run(*TUNE, "--recipe", "best.toml", cwd=folder)
    assert "No difference proven: the present settings stay." in shown
    assert tomllib.loads((folder / "best.toml").read_text()) == {}


def test_a_run_that_was_killed_is_gone_on_with(folder: Path) -> None:
    journal = folder / "c" / "tune" / "journal.jsonl"
    started = subprocess.Popen(
        [sys.executable, "-m", "chunkwise", *TUNE], cwd=folder, stdout=subprocess.DEVNULL
    )
    end = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 2):
        assert time.monotonic() < end
        time.sleep(0.002)
    os.kill(started.pid, signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    before = journal.read_bytes()
    whole = before[: before.rfind(b"\n") + 1]
    journal.write_bytes(whole + b'{"key": "half of a li')
    done = process(*TUNE, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "its last line is not whole" in done.stderr
    after = journal.read_bytes()
    assert after.startswith(whole)
    rows = [
        (line["key"], question)
        for line in map(json.loads, after.splitlines())
        for question in line["rows"]
    ]
    assert len(rows) == len(set(rows))
    found = json.loads(done.stdout)
    assert found["finished"]
    unbroken = parsed(*TUNE, "--fresh", cwd=folder)
    for one, other in zip(found["standings"], unbroken["standings"], strict=True):
        assert {**one, "ms": 0, "index_bytes": 0} == {**other, "ms": 0, "index_bytes": 0}
    assert not [path for path in journal.parent.iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ("q.jsonl -c nowhere", 1, "no corpus"),
        ("none.jsonl -c c", 1, "cannot be read"),
        ("empty.jsonl -c c", 1, "is empty"),
        ("one.jsonl -c c", 2, "at least 2 questions"),
        ("q.jsonl -c c --metric recal", 2, "Did you mean 'recall'"),
        ("q.jsonl -c c --cost chunk", 2, "Did you mean 'chunks'"),
        ("q.jsonl -c c --space wrong.toml", 2, "Did you mean 'size'"),
        ("q.jsonl -c c --space alone.toml", 2, "nothing to compare"),
        ("q.jsonl -c c --space space.toml --recipe no/such.toml", 2, "cannot be written"),
    ],
)
def test_what_is_wrong_is_named(given: str, code: int, message: str, shared: Path) -> None:
    (shared / "empty.jsonl").write_text("")
    (shared / "one.jsonl").write_text((shared / "q.jsonl").read_text().splitlines()[0] + "\n")
    (shared / "wrong.toml").write_text("sizes = [12]\n")
    (shared / "alone.toml").write_text("size = [96]\n")
    done = process("tune", *given.split(), cwd=shared)
    assert done.returncode == code
    assert message in done.stderr.replace("\n", " ")


def test_a_file_that_cannot_be_written_is_said_before_the_run(folder: Path) -> None:
    done = process(*TUNE, "--plot", "no/such.png", cwd=folder)
    assert "cannot be written" in done.stderr.replace("\n", " ")
    assert not (folder / "c" / "tune").exists()
