"""Chunks on disk for the benchmarks of reuse: computed once, in the engine's numbers or int8."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from chunkwise.llm.kv.disk import DiskTier
from chunkwise.llm.local import LLM, ReuseSettings
from chunkwise.llm.sequence import TokenSegment

_KV_MB, _MEMORY_MB, _AT_A_TIME = 512, 256, 8


def warmed(
    model: Path,
    anchor: list[int],
    chunks: Sequence[TokenSegment],
    folder: Path,
    disk_dtypes: Sequence[str],
) -> None:
    """Have chunks on disk, in all these numbers; those that are there from an earlier run stay.

    Each is computed once, and written as whole numbers from what was kept.
    """
    tiers = {dtype: _tier(model, anchor, folder, dtype) for dtype in {"same", *disk_dtypes}}
    _compute(model, anchor, chunks, folder)
    if "int8" not in disk_dtypes:
        return
    for chunk in chunks:
        name, ids = str(chunk.content_id), np.array(chunk.token_ids, np.int32)
        if not tiers["int8"].has(name):
            segment = tiers["same"].load(name, ids)
            assert segment is not None, f"{name} was not kept"
            tiers["int8"].save(name, segment)


def _compute(model: Path, anchor: list[int], chunks: Sequence[TokenSegment], folder: Path) -> None:
    """Compute what is not on disk."""
    llm = _engine(model, anchor, folder, "same")
    began, computed, told_at = time.perf_counter(), 0, 0
    for i in range(0, len(chunks), _AT_A_TIME):
        computed += llm.admit(chunks[i : i + _AT_A_TIME])
        if 10 * i // len(chunks) > told_at:
            told_at = 10 * i // len(chunks)
            print(f"{i} of {len(chunks)} chunks after {time.perf_counter() - began:.0f} s")
    took = time.perf_counter() - began
    print(f"{computed} of {len(chunks)} chunks computed in {took:.1f} s", flush=True)


def _tier(model: Path, anchor: list[int], folder: Path, disk_dtype: str) -> DiskTier:
    reuse = _engine(model, anchor, folder, disk_dtype).engine.reuse
    assert reuse is not None, "it was asked for"
    assert reuse.store.disk is not None, "it has a folder"
    return reuse.store.disk


def _engine(model: Path, anchor: list[int], folder: Path, disk_dtype: str) -> LLM:
    settings = ReuseSettings(
        "none",
        anchor,
        memory_mb=_MEMORY_MB,
        folder=folder,
        disk_mb=2**20,
        disk_dtype=disk_dtype,
        load="always",
    )
    return LLM(model, dtype="bfloat16", kv_budget_mb=_KV_MB, reuse=settings)
