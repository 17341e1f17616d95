"""How much memory is taken for KV where nobody says how much."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from chunkwise.llm import memory

GB = 2**30
CPU = torch.device("cpu")


def group(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text + "\n", encoding="ascii")


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_meminfo", lambda: 64 * GB)
    return tmp_path


def test_cached_pages_of_files_are_free(cgroup: Path) -> None:
    stat = f"anon {GB}\nactive_file {2 * GB}\ninactive_file {4 * GB}\nfile_mapped 7"
    group(cgroup, {"memory.max": str(8 * GB), "memory.current": str(8 * GB), "memory.stat": stat})
    assert memory.available_bytes(CPU) == 6 * GB


def test_version_1_counts_those_of_groups_below_too(cgroup: Path) -> None:
    stat = f"active_file 5\ntotal_active_file {GB}\ntotal_inactive_file {GB}"
    files = {"limit_in_bytes": str(4 * GB), "usage_in_bytes": str(3 * GB), "stat": stat}
    group(cgroup, {f"memory/memory.{name}": text for name, text in files.items()})
    assert memory.available_bytes(CPU) == 3 * GB


@pytest.mark.parametrize("limit", ["max", str(100 * GB), ""])
def test_without_a_lower_limit_the_machine_counts(cgroup: Path, limit: str) -> None:
    group(cgroup, {"memory.max": limit, "memory.current": str(GB)})
    assert memory.available_bytes(CPU) == 64 * GB


def test_a_full_machine_still_gets_enough_to_run_and_says_so(
    cgroup: Path, caplog: pytest.LogCaptureFixture
) -> None:
    group(cgroup, {"memory.max": str(GB), "memory.current": str(GB - 4096)})
    with caplog.at_level(logging.WARNING):
        assert memory.kv_bytes_by_default(CPU) == 64 * 2**20
    assert "kv_budget_mb" in caplog.text


def test_a_large_machine_is_not_emptied(cgroup: Path) -> None:
    assert memory.kv_bytes_by_default(CPU) == 8 * GB


def test_this_machine_has_some() -> None:
    assert memory.available_bytes(CPU) > 0
