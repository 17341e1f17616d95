"""Chunks on disk: another process finds them, and nothing that is damaged is ever used."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from chunkwise.errors import ConfigError
from chunkwise.llm.kv import disk as disk_module
from chunkwise.llm.kv.disk import (
    DiskTier,
    drop_others,
    pin,
    pinned,
    stats,
    unpin,
    verify,
)
from chunkwise.llm.kv.memory import KVShape, Segment, Statistics

SHAPE = KVShape(2, 2, 16, torch.bfloat16, torch.device("cpu"))


def tier(folder: Path, *, made_for: str = "model", budget: int = 2**20) -> DiskTier:
    return DiskTier(folder, made_for, SHAPE, budget)


def segment(seed: int, tokens: int = 7) -> Segment:
    draw = torch.Generator().manual_seed(seed)
    full = SHAPE.num_layers, SHAPE.num_kv_heads, tokens, SHAPE.head_dim
    k, v = (torch.randn(full, generator=draw).to(SHAPE.dtype) for _ in "kv")
    ids = np.arange(seed, seed + tokens, dtype=np.int32)
    return Segment(k, v, ids, 5, tokens, tokens, tokens, 0)


def same(a: Segment | None, b: Segment) -> bool:
    return a is not None and bool((a.k == b.k).all() and (a.v == b.v).all()) and a.start == b.start


def only_file(disk: DiskTier) -> Path:
    (path,) = disk.folder.glob("*.kv")
    return path


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_what_was_saved_is_loaded(dtype: torch.dtype, tmp_path: Path) -> None:
    shape = SHAPE._replace(dtype=dtype)
    disk, made = DiskTier(tmp_path, "model", shape, 2**20), segment(1)
    made.k, made.v = made.k.to(dtype), made.v.to(dtype)
    assert disk.save("one", made)
    found = DiskTier(tmp_path, "model", shape, 2**20).load("one", made.token_ids)
    assert same(found, made)
    assert disk.load("two", made.token_ids) is None
    assert stats(tmp_path)[0][:2] == ("model", 1)


def test_mapped_chunks_keep_no_file_open(tmp_path: Path) -> None:
    disk, made = tier(tmp_path), segment(1)
    disk.save("one", made)
    before = len(os.listdir("/proc/self/fd"))
    mapped = [disk.load("one", made.token_ids) for _ in range(20)]
    assert all(same(each, made) for each in mapped)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_that_is_gone_is_made_again(tmp_path: Path) -> None:
    disk, made = tier(tmp_path / "kv"), segment(1)
    shutil.rmtree(tmp_path / "kv")
    assert disk.load("one", made.token_ids) is None
    assert disk.save("one", made)
    assert same(disk.load("one", made.token_ids), made)


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "screens").mkdir()
    (tmp_path / "screens" / "main.kv").write_text("<Screen>:")
    disk = tier(tmp_path)
    disk.save("one", segment(1))
    (disk.folder / "notes.kv").write_text("mine")
    assert verify(tmp_path) == (1, [])
    assert drop_others(tmp_path, []) == 1
    assert (tmp_path / "screens" / "main.kv").exists()
    assert (disk.folder / "notes.kv").exists()


def test_what_was_left_half_written_goes(tmp_path: Path) -> None:
    disk = tier(tmp_path)
    old, new = disk.folder / "old.part", disk.folder / "new.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    assert stats(tmp_path) == []
    assert not old.exists()
    assert new.exists(), "somebody may be writing it"


def test_another_model_or_anchor_finds_nothing(tmp_path: Path) -> None:
    made = segment(1)
    assert tier(tmp_path).save("one", made)
    assert tier(tmp_path, made_for="model, other anchor").load("one", made.token_ids) is None
    assert same(tier(tmp_path).load("one", made.token_ids), made)


@pytest.mark.parametrize("where", [0, 9, 40, 4096, 8200, 12300])
def test_a_flipped_bit_is_noticed(where: int, tmp_path: Path) -> None:
    disk, made = tier(tmp_path), segment(1)
    disk.save("one", made)
    path = only_file(disk)
    data = bytearray(path.read_bytes())
    data[where] ^= 16
    path.write_bytes(data)
    assert disk.load("one", made.token_ids) is None
    assert not path.exists(), "a damaged file is removed"


@pytest.mark.parametrize("size", [0, 10, 4096, 5000, 9000])
def test_a_file_cut_short_is_noticed(size: int, tmp_path: Path) -> None:
    disk, made = tier(tmp_path), segment(1)
    disk.save("one", made)
    os.truncate(only_file(disk), size)
    assert disk.load("one", made.token_ids) is None
    assert not stats(tmp_path)


def test_other_tokens_under_the_same_id_are_not_used(tmp_path: Path) -> None:
    disk, made = tier(tmp_path), segment(1)
    disk.save("one", made)
    assert disk.load("one", made.token_ids + 1) is None


def test_verify_removes_what_is_damaged(tmp_path: Path) -> None:
    disk = tier(tmp_path)
    for seed in range(3):
        disk.save(str(seed), segment(seed))
    path = sorted(disk.folder.glob("*.kv"))[1]
    path.write_bytes(path.read_bytes()[:-5000])
    whole, problems = verify(tmp_path)
    assert whole == 2
    assert len(problems) == 1
    assert path.name in problems[0]
    assert stats(tmp_path)[0].chunks == 2
    left = next(str(seed) for seed in range(3) if disk.has(str(seed)))
    assert drop_others(tmp_path, [left, "unknown"]) == 1
    assert [disk.has(str(seed)) for seed in range(3)].count(True) == 1
    assert disk.has(left)
    assert drop_others(tmp_path, []) == 1
    assert stats(tmp_path) == verify(tmp_path)[1] == []
    assert stats(tmp_path / "none") == []


def test_the_budget_is_kept_and_what_was_used_longest_ago_goes(tmp_path: Path) -> None:
    made = [segment(seed) for seed in range(4)]
    size = 4 * 4096  # header, tokens, keys, values
    disk = tier(tmp_path, budget=3 * size)
    for i in range(3):
        assert disk.save(str(i), made[i])
        os.utime(disk._path(str(i)), ns=(i, i))
    assert disk.load("0", made[0].token_ids) is not None  # used now
    assert disk.save("3", made[3])
    assert [disk.load(str(i), made[i].token_ids) is not None for i in range(4)] == [1, 0, 1, 1]
    assert stats(tmp_path)[0].nbytes <= 3 * size
    assert not tier(tmp_path / "small", budget=100).save("0", made[0])


def test_a_full_disk_keeps_what_is_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import resource

    disk, made = tier(tmp_path), segment(1)
    disk.save("one", made)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, before[1]))
        assert not disk.save("two", segment(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "cannot be written" in caplog.text
    assert [path.suffix for path in disk.folder.iterdir()] == [".kv"]
    assert same(disk.load("one", made.token_ids), made)


def test_a_process_that_is_killed_while_it_writes_leaves_nothing_bad(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.llm.kv.test_disk import *\n"
        "disk = tier(Path(sys.argv[1]), budget=2**30)\n"
        "print('go', flush=True)\n"
        "for n in range(10**6): disk.save(str(n % 50), segment(n % 50, 3000))\n"
    )
    root = Path(__file__).parents[3]
    for wait in (0.01, 0.05, 0.1):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdout=subprocess.PIPE,
            cwd=root,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)])},
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"go\n"
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(wait)
        child.kill()
        child.wait()
        child.stdout.close()
    found = stats(tmp_path)[0].chunks
    assert found > 0
    assert verify(tmp_path) == (found, [])


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot hold chunks"):
        tier(tmp_path / "file")


def test_what_is_pinned_stays(tmp_path: Path) -> None:
    size = 3 * (4 * 4096)
    disk = tier(tmp_path, budget=size)
    assert pin(tmp_path, ["0", "later"]) == 2
    assert pin(tmp_path, ["0"]) == 0
    for seed in range(8):
        assert disk.save(str(seed), segment(seed))
    assert disk.has("0")
    assert not disk.has("1")
    assert unpin(tmp_path, ["0", "never"]) == 1
    for seed in range(8, 12):
        disk.save(str(seed), segment(seed))
    assert not disk.has("0")
    assert len(pinned(tmp_path)) == 1
    drop_others(tmp_path, [])
    assert not pinned(tmp_path)
    assert stats(tmp_path) == []


def test_what_is_pinned_does_not_age(tmp_path: Path) -> None:
    disk = DiskTier(tmp_path, "model", SHAPE, 2**20, ttl_s=60)
    disk.save("one", segment(1))
    pin(tmp_path, ["one"])
    os.utime(only_file(disk), (1, 1))
    assert DiskTier(tmp_path, "model", SHAPE, 2**20, ttl_s=60).has("one")


def test_pins_that_fill_the_budget_leave_no_room(tmp_path: Path) -> None:
    disk = tier(tmp_path, budget=2 * (4 * 4096))
    pin(tmp_path, ["0", "1"])
    assert [disk.save(str(seed), segment(seed)) for seed in range(3)] == [True, True, False]


def noted(seed: int, tokens: int = 7) -> Segment:
    made = segment(seed, tokens)
    external = np.random.default_rng(seed).random(tokens, dtype=np.float32)
    made.statistics = Statistics(external, 0.25, 0.125)
    return made


def test_statistics_are_saved_with_a_chunk(tmp_path: Path) -> None:
    made = noted(1)
    assert tier(tmp_path).save("one", made)
    for with_statistics in (False, True):
        disk = DiskTier(tmp_path, "model", SHAPE, 2**20, with_statistics=with_statistics)
        assert disk.has("one")
        found = disk.load("one", made.token_ids)
        assert same(found, made)
        assert found is not None
        assert found.statistics is not None
        assert found.statistics[1:] == (0.25, 0.125)
        assert (found.statistics.external == made.statistics.external).all()  # type: ignore[union-attr]
    assert verify(tmp_path) == (1, [])


def test_a_file_without_statistics_serves_those_who_need_none(tmp_path: Path) -> None:
    made = segment(1)
    plain = tier(tmp_path)
    plain.save("one", made)
    asking = DiskTier(tmp_path, "model", SHAPE, 2**20, with_statistics=True)
    assert not asking.has("one")
    assert not asking.has("two")
    assert asking.load("one", made.token_ids) is None
    assert plain.has("one")
    assert same(plain.load("one", made.token_ids), made)
    asking.save("one", noted(1))
    assert asking.has("one")
    assert same(asking.load("one", made.token_ids), made)
    assert same(plain.load("one", made.token_ids), made)


def test_a_file_of_before_there_were_statistics_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, dumps = segment(1), disk_module.json.dumps
    monkeypatch.setattr(
        disk_module.json,
        "dumps",
        lambda header: dumps({k: v for k, v in header.items() if k != "statistics"}),
    )
    assert tier(tmp_path).save("one", made)
    assert b"statistics" not in only_file(tier(tmp_path)).read_bytes()
    assert same(tier(tmp_path).load("one", made.token_ids), made)
    asking = DiskTier(tmp_path, "model", SHAPE, 2**20, with_statistics=True)
    assert not asking.has("one")
    assert asking.load("one", made.token_ids) is None


def test_a_flipped_bit_in_statistics_is_noticed(tmp_path: Path) -> None:
    disk, made = tier(tmp_path), noted(1)
    disk.save("one", made)
    path = only_file(disk)
    data = bytearray(path.read_bytes())
    data[-4096] ^= 16  # the last page holds them
    path.write_bytes(data)
    assert disk.load("one", made.token_ids) is None
    assert not path.exists()
