"""`chunkwise cache` in real processes: chunks are read ahead, kept, checked and dropped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.test_commands import HASHING, parsed, process, run

pytest.importorskip("torch")
pytest.importorskip("jinja2")

MODEL = ("--model", "m", "-s", "kernels=reference", "-s", "dtype=float32")
REUSE = (*MODEL, "-s", "reuse=combined", "-s", "reuse_agreement=0", "-s", "chunk_load=always")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two documents of some chunks, and a small model."""
    run("models", "fake", "m", "--like", "tiny-llama", "--dtype", "float32", cwd=tmp_path)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["max_position_embeddings"] = 8192  # bytes, with this tokenizer
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    for name, subject in (("a.txt", "pier"), ("b.txt", "gate")):
        lines = (f"The {subject} of house {n} is green. " * 4 for n in range(6))
        (tmp_path / name).write_text("\n\n".join(lines))
    run("add", "a.txt", "b.txt", "--size", "30", *HASHING, cwd=tmp_path)
    return tmp_path


def files(folder: Path) -> list[Path]:
    return sorted((folder / ".chunkwise" / "kv").rglob("*.kv"))


def test_a_model_that_fails_its_test_reads_all_anew(folder: Path) -> None:
    reuse = (*MODEL, "-s", "reuse=none")
    asked = ("ask", "Is the pier green?", *reuse, "-s", "max_tokens=4", "--json")
    for is_new in (True, False):  # the second one finds what was kept
        done = process(*asked, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert ("Testing once" in done.stderr) == is_new
        assert "Chunks are not reused" in done.stderr
        assert "`reuse_agreement` asks for 0.99" in done.stderr
        answer = json.loads(done.stdout)
        assert "reused_tokens" not in answer["usage"]
        assert "prompt" not in answer["fidelity"]
    found = parsed("cache", "test", *reuse, cwd=folder)
    assert found["prompts"] == 24
    assert found["answers"] < 0.9 * found["floor_answers"]
    assert found["kl"] > found["floor_kl"]
    assert not files(folder), "what the test computed is dropped"
    assert "it failed its self-test" in process("cache", "warm", *reuse, cwd=folder).stderr
    (kept,) = (folder / ".chunkwise" / "kv" / "fidelity").iterdir()
    kept.write_text(kept.read_text()[:-9])
    assert "is run again" in process("cache", "test", *reuse, cwd=folder).stderr


def test_exact_answers_read_all_anew(folder: Path) -> None:
    asked = ("ask", "Is the pier green?", *REUSE, "-s", "max_tokens=4")
    assert parsed(*asked, cwd=folder)["fidelity"]["prompt"] == "approximate"
    assert "prompt" not in parsed(*asked, "--exact", cwd=folder)["fidelity"]


def test_chunks_are_read_once_and_go_with_their_document(folder: Path) -> None:
    assert "No chunks are kept" in run("cache", "stats", cwd=folder)
    count = parsed("cache", "warm", *REUSE, cwd=folder)["computed"]
    assert count == len(files(folder)) > 4
    assert run("cache", "warm", *REUSE, cwd=folder).strip() == "Read 0 chunks."
    (model,) = parsed("cache", "stats", cwd=folder)["models"]
    assert model["made_for"].startswith("local:")
    assert model["chunks"] == count
    answer = parsed("ask", "Is the pier green?", *REUSE, "-s", "max_tokens=4", cwd=folder)
    assert answer["usage"]["reused_tokens"] > 0
    assert answer["fidelity"]["prompt"] == "approximate"
    assert len(files(folder)) == count
    run("rm", "a.txt", cwd=folder)
    left = len(files(folder))
    assert 0 < left < count
    assert parsed("cache", "clear", cwd=folder) == {"removed": left}
    assert not files(folder)


def test_what_is_damaged_is_named_removed_and_read_again(folder: Path) -> None:
    count = parsed("cache", "warm", *REUSE, cwd=folder)["computed"]
    damaged = files(folder)[0]
    damaged.write_bytes(damaged.read_bytes()[:5000])
    found = parsed("cache", "verify", cwd=folder, code=1)
    assert found["whole"] == count - 1
    assert damaged.name in found["removed"][0]
    assert run("cache", "verify", cwd=folder).strip() == f"{count - 1} chunks are whole."
    assert parsed("cache", "warm", *REUSE, cwd=folder) == {"computed": 1, "left": 0}


def test_reading_ahead_stops_where_there_is_no_more_room(folder: Path) -> None:
    full = ("-s", "chunk_disk_mb=0")
    assert parsed("cache", "warm", *REUSE, *full, cwd=folder)["left"] == 0
    assert not files(folder), "0: they are not kept"
    lines = (f"The lamp of house {n} is green. " * 4 for n in range(20))
    (folder / "c.txt").write_text("\n\n".join(lines))
    run("add", "c.txt", "--size", "30", *HASHING, cwd=folder)
    little = process("cache", "warm", *REUSE, "-s", "chunk_disk_mb=1", "--json", cwd=folder)
    found = json.loads(little.stdout)
    assert found["left"] > 0
    size = sum(path.stat().st_size for path in files(folder))
    assert 0 < size <= 2**20
    again = parsed("cache", "warm", *REUSE, "-s", "chunk_disk_mb=1", cwd=folder)
    assert again["computed"] == 0, "what is there is not read again"


def test_reading_ahead_goes_on_where_it_was_killed(folder: Path) -> None:
    command = [sys.executable, "-m", "chunkwise", "cache", "warm", *REUSE]
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not files(folder) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    done = len(files(folder))
    assert done
    assert parsed("cache", "verify", cwd=folder)["removed"] == []
    rest = parsed("cache", "warm", *REUSE, cwd=folder)["computed"]
    assert len(files(folder)) == done + rest


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("stats", "--corpus", "none"), 1, "no corpus"),
        (("warm", *MODEL, "-s", "reuse="), 2, "`--set reuse=combined`, for example"),
        (("warm", "-s", "reuse=combined"), 2, "No language model is set"),
        (("warm", *MODEL, "-s", "reuse=combind"), 2, "Did you mean 'combined'"),
        (("warm", *REUSE, "-s", "chunk_memory_mb=0"), 2, "`chunk_memory_mb` must be at least 1"),
        (
            ("warm", "--model", "m", "-s", "reuse=none", "-s", "base_url=http://localhost:1/v1"),
            2,
            "leave `base_url` out",
        ),
    ],
)
def test_what_is_wrong_is_named(
    arguments: tuple[str, ...], code: int, message: str, folder: Path
) -> None:
    done = process("cache", *arguments, cwd=folder)
    assert done.returncode == code, done.stderr
    assert message in done.stderr


def test_what_is_pinned_stays(folder: Path) -> None:
    assert "no such document" in process("cache", "pin", "c.txt", cwd=folder).stderr
    count = parsed("cache", "pin", "a.*", cwd=folder)["chunks"]
    assert count > 2
    assert run("cache", "pin", "a.txt", cwd=folder).strip() == "Pinned 0 chunks."
    total = parsed("cache", "warm", *REUSE, "-s", "chunk_disk_dtype=int8", cwd=folder)["computed"]
    assert f"{count} chunks are pinned" in run("cache", "stats", cwd=folder)
    (model,) = parsed("cache", "stats", cwd=folder)["models"]
    assert model["made_for"].startswith("int8 local:")
    assert model["chunks"] == total
    old = (1, 1)
    for path in files(folder):
        os.utime(path, old)
    ttl = ("-s", "chunk_ttl_days=1", "-s", "chunk_disk_dtype=int8", "-s", "max_tokens=2")
    run("ask", "Is the gate green?", *REUSE, *ttl, cwd=folder)
    left = [path for path in files(folder) if path.stat().st_mtime == 1]
    assert 0 < len(left) <= count, "the others were too old"
    assert parsed("cache", "unpin", "a.txt", cwd=folder)["chunks"] == count
    assert run("cache", "clear", cwd=folder).startswith("Removed")
    emptied = parsed("cache", "stats", cwd=folder)
    assert not emptied["models"]
    assert not emptied["pinned"]
