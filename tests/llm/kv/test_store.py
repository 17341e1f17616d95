"""Chunks in memory and on disk: who goes first, what is loaded, what is remembered."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunkwise.llm.costs import CostModel, Work
from chunkwise.llm.eviction import policies
from chunkwise.llm.kv.disk import DiskTier
from chunkwise.llm.kv.store import ChunkStore
from tests.llm.kv.test_disk import SHAPE, same, segment, tier

SLOW = Work(row=1e9, pair=1e3)  # a large model: loading is always worth it


def store(
    chunks: int,
    disk: DiskTier | None = None,
    *,
    policy: str = "lru",
    costs: CostModel | None = None,
    **more: Any,
) -> ChunkStore:
    """One with room for so many chunks of `segment`'s size."""
    size = chunks * segment(0).nbytes
    return ChunkStore(size, policies.build(policy), costs or CostModel(SLOW), disk, **more)


def test_memory_is_one_tier_above(tmp_path: Path) -> None:
    made = [segment(seed) for seed in range(3)]
    chunks = store(2, tier(tmp_path))
    for i, each in enumerate(made):
        chunks.put(str(i), each)
    assert len(chunks) == 2
    found = chunks.get("0", made[0].token_ids)  # from disk, in the place of another
    assert same(found, made[0])
    assert len(chunks) == 2
    assert found is not None
    chunks.retain(found)
    for i in (1, 2):
        assert chunks.get(str(i), made[i].token_ids) is not None
    assert chunks.get("0", made[0].token_ids) is found, "evicted while somebody holds it"
    chunks.release(found)
    assert chunks.drop("0")
    assert chunks.get("0", made[0].token_ids) is None
    assert not chunks.drop("0")


def test_what_is_held_by_two_counts_once() -> None:
    chunks, made = store(2), segment(1)
    chunks.put("one", made)
    for _ in range(2):
        chunks.retain(made)
    assert chunks.held_bytes == made.nbytes
    assert chunks.has_room(made.nbytes)
    assert not chunks.has_room(2 * made.nbytes)
    for _ in range(2):
        chunks.release(made)
    assert chunks.held_bytes == 0


def test_what_is_computed_sooner_is_not_loaded(tmp_path: Path) -> None:
    made, costs = segment(1), CostModel(Work(row=1.0, pair=0.0))
    tier(tmp_path).save("one", made)
    chunks = store(2, tier(tmp_path), costs=costs)
    assert chunks.where("one", made.token_ids) == "disk"
    assert not chunks.has("one", made.token_ids), "it is to be computed"
    chunks.prefetch("one", made.token_ids)
    assert not len(chunks)
    tries = 0
    while chunks.get("one", made.token_ids) is None:  # a disk that was slow once is tried again
        tries += 1
        assert tries < 1000
    assert tries == 50
    assert chunks.where("one", made.token_ids) == "memory"


def test_a_slow_disk_is_hardly_ever_used() -> None:
    costs, loads = CostModel(Work(row=1e6, pair=0.0)), 0
    for _ in range(2):
        costs.computed(100, 0, 0.002)
    for _ in range(1000):
        if costs.is_worth_loading(100, 10**6):
            loads += 1
            costs.loaded(10**6, 0.04)
        else:
            costs.refused()
    assert loads < 25
    for _ in range(60):  # it has become fast
        if costs.is_worth_loading(100, 10**6):
            costs.loaded(10**6, 0.001)
        else:
            costs.refused()
    assert costs.is_worth_loading(100, 10**6)


def test_what_is_used_in_memory_stays_young_on_disk(tmp_path: Path) -> None:
    now, made = [0.0], segment(1)
    disk = DiskTier(tmp_path, "model", SHAPE, 2**20, ttl_s=60)
    chunks = store(2, disk, ttl_s=60, clock=lambda: now[0])
    chunks.put("one", made)
    (path,) = disk.folder.glob("*.kv")
    os.utime(path, (1, 1))
    now[0] = 5
    chunks.get("one", made.token_ids)
    assert path.stat().st_mtime == 1, "told a short time ago"
    now[0] = 7
    chunks.get("one", made.token_ids)
    assert path.stat().st_mtime > 1


def test_what_is_fetched_ahead_is_found(tmp_path: Path) -> None:
    made = [segment(seed) for seed in range(3)]
    for i, each in enumerate(made):
        tier(tmp_path).save(str(i), each)
    chunks = store(2, tier(tmp_path))
    for i, each in enumerate(made):  # the third has no room beside the two on their way
        chunks.prefetch(str(i), each.token_ids)
    assert chunks.get("0", made[0].token_ids + 1) is None, "another chunk under its id"
    for i in (0, 1, 2):
        assert same(chunks.get(str(i), made[i].token_ids), made[i])
    assert chunks.used_bytes == 2 * made[0].nbytes


def test_a_damaged_file_that_is_fetched_ahead_is_no_chunk(tmp_path: Path) -> None:
    made, disk = segment(1), tier(tmp_path)
    disk.save("one", made)
    (path,) = disk.folder.glob("*.kv")
    data = bytearray(path.read_bytes())
    data[8200] ^= 1
    path.write_bytes(data)
    chunks = store(2, disk)
    chunks.prefetch("one", made.token_ids)
    assert chunks.get("one", made.token_ids) is None
    assert not path.exists()


def test_what_is_not_used_for_long_is_forgotten(tmp_path: Path) -> None:
    now, made = [0.0], segment(1)
    disk = DiskTier(tmp_path, "model", SHAPE, 2**20, ttl_s=60)
    chunks = store(2, disk, ttl_s=60, clock=lambda: now[0])
    chunks.put("one", made)
    now[0] = 59
    assert chunks.get("one", made.token_ids) is made
    now[0] = 118
    assert chunks.where("one", made.token_ids) == "memory", "it was used in between"
    now[0] = 120
    assert chunks.where("one", made.token_ids) == "disk"
    assert chunks.used_bytes == 0
    (path,) = disk.folder.glob("*.kv")
    os.utime(path, (time.time() - 61,) * 2)
    assert chunks.get("one", made.token_ids) is None
    DiskTier(tmp_path, "model", SHAPE, 2**20, ttl_s=60)
    assert not path.exists(), "a start removes what is too old"


@pytest.mark.parametrize("name", policies.own)
def test_every_policy_keeps_the_budget_and_what_is_held(name: str) -> None:
    chunks = store(3, policy=name)
    made = [segment(seed, tokens=1 + seed % 9) for seed in range(40)]
    held = segment(50)
    chunks.put("held", held)
    chunks.retain(held)
    for i, each in enumerate(made):
        chunks.put(str(i), each)
        chunks.get(str(i // 2), made[i // 2].token_ids)
        assert chunks.used_bytes <= chunks.budget_bytes
        assert chunks.used_bytes == sum(e.segment.nbytes for e in chunks._entries.values())
    assert chunks.get("held", held.token_ids) is held


@pytest.mark.parametrize("name", ["gdsf", "saved_cost"])
def test_what_is_asked_for_often_stays_where_lru_lets_it_go(name: str) -> None:
    """A few chunks that come back among many that do not, and draws as of a Zipf law."""

    def hits(policy: str, draws: list[int]) -> int:
        chunks = store(16, policy=policy)
        return sum(_asked(chunks, str(i), i) for i in draws)

    rounds = [i for k in range(40) for i in (0, 1, 2, 3, *range(20 * k + 4, 20 * k + 24))]
    assert hits("lru", rounds) == 0
    assert hits(name, rounds) > 100
    draws = np.random.default_rng(0).zipf(1.3, 3000) % 500
    assert hits(name, draws.tolist()) > 1.05 * hits("lru", draws.tolist())


def _asked(chunks: ChunkStore, name: str, seed: int) -> bool:
    made = segment(seed)
    if chunks.get(name, made.token_ids) is not None:
        return True
    chunks.put(name, made)
    return False


@pytest.mark.parametrize("name", ["gdsf", "saved_cost"])
def test_what_is_not_asked_for_any_more_goes(name: str) -> None:
    chunks = store(2, policy=name)
    old = segment(0)
    for _ in range(20):
        _asked(chunks, "old", 0)
    for i in range(1, 400):
        _asked(chunks, str(i % 3), 1 + i % 3)
    assert chunks.where("old", old.token_ids) == "none"


def test_what_is_expected_goes_last() -> None:
    chunks = store(3, policy="saved_cost")
    for _ in range(9):
        for seed in range(3):
            _asked(chunks, str(seed), seed)
    for seed in (3, 4):  # new ones would go for each other
        chunks.expect(str(seed), "a prompt")
    for seed in (3, 4):
        chunks.put(str(seed), segment(seed))
    assert [chunks.where(str(i), segment(i).token_ids) for i in (3, 4)] == ["memory"] * 2
    for seed in (3, 4):
        chunks.unexpect(str(seed), "another")
        chunks.unexpect(str(seed), "a prompt")
    chunks.put("5", segment(5))
    assert chunks.where("4", segment(4).token_ids) != chunks.where("3", segment(3).token_ids)


def test_a_rate_is_learned_and_forgets() -> None:
    costs = CostModel(Work(row=1e6, pair=0.0))
    assert not costs.is_measured
    costs.computed(4, 0, 1.0)  # a decode says nothing
    assert not costs.is_measured
    costs.computed(100, 0, 9.0)  # nor does the first step
    assert not costs.is_measured
    costs.computed(100, 0, 0.1)
    assert costs.compute_ms(100) == pytest.approx(100)
    for _ in range(40):
        costs.computed(100, 0, 0.2)
    assert costs.compute_ms(100) == pytest.approx(200, rel=0.01)
    costs.computed(100, 0, 0.0)  # too quick for the clock
    assert costs.compute_ms(100) == pytest.approx(200, rel=0.01)


def test_tokens_behind_others_cost_more() -> None:
    costs: Callable[..., float] = CostModel(Work(row=1.0, pair=1.0)).compute_ms
    assert costs(10, 1000) > costs(10)
    assert costs(10) + costs(10, 10) == pytest.approx(costs(20))
