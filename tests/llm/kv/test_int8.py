"""Keys and values in whole numbers: near, half the size, and the same wherever they are read."""

from __future__ import annotations

from pathlib import Path

import torch

from chunkwise.llm.kv.disk import DiskTier, stats
from chunkwise.llm.kv.int8 import Quantised
from tests.llm.kv.test_disk import SHAPE, same, segment
from tests.llm.kv.test_store import store


def test_numbers_are_half_a_step_off_at_most() -> None:
    made = segment(1, tokens=50)
    kept = Quantised.of(made.k, made.v)
    k, v = kept.restored(torch.float32)
    assert ((k - made.k.float()).abs() <= 0.5001 * kept.k_scale).all()
    assert ((v - made.v.float()).abs() <= 0.5001 * kept.v_scale).all()


def test_a_large_channel_of_keys_costs_the_others_nothing() -> None:
    made = segment(1, tokens=50)
    made.k[..., 3] *= 1000
    k, _ = Quantised.of(made.k, made.v).restored(torch.float32)
    others = torch.arange(SHAPE.head_dim) != 3
    assert (k - made.k.float())[..., others].abs().max() < 0.03


def test_nothing_stays_nothing() -> None:
    made = segment(1)
    kept = Quantised.of(torch.zeros_like(made.k), torch.zeros_like(made.v))
    assert not any(x.any() for x in kept.restored(torch.bfloat16))


def test_memory_and_disk_give_the_same(tmp_path: Path) -> None:
    made = segment(1, tokens=300)
    chunks = store(60, DiskTier(tmp_path, "model", SHAPE, 2**20, is_int8=True))
    chunks.put("one", made)
    near = chunks.get("one", made.token_ids)
    assert near is not None
    assert not same(near, made)
    assert (near.k - made.k).abs().max() < 0.05
    again = store(60, DiskTier(tmp_path, "model", SHAPE, 2**20, is_int8=True))
    assert same(again.get("one", made.token_ids), near)
    assert stats(tmp_path)[0].nbytes < 0.85 * made.nbytes  # heads of 16; at 64 it is 0.56
    plain = store(60, DiskTier(tmp_path, "model", SHAPE, 2**20))
    assert plain.get("one", made.token_ids) is None, "made for another kind of numbers"
