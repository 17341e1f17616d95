"""How much memory this process may still take."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

_CGROUP = Path("/sys/fs/cgroup")
_UNKNOWN_BYTES = 4 * 2**30
"""What is assumed where the system does not say."""

_KV_SHARE = 0.4
_MIN_KV_BYTES, _MAX_KV_BYTES = 64 * 2**20, 8 * 2**30


def kv_bytes_by_default(device: torch.device) -> int:
    """Bytes for KV where the user names none: a share of what is free.

    Never so little that nothing could run: pages are only taken as they are needed, so a machine
    that is full at this moment may still have them later.
    """
    share = int(_KV_SHARE * available_bytes(device))
    if share < _MIN_KV_BYTES:
        logger.warning(
            "little memory is free: the KV budget is %d MiB; set `kv_budget_mb`",
            _MIN_KV_BYTES // 2**20,
        )
    return min(max(share, _MIN_KV_BYTES), _MAX_KV_BYTES)


def available_bytes(device: torch.device) -> int:
    """Bytes that are free on a device, within the limits of the container."""
    if device.type != "cpu":
        free, _ = torch.get_device_module(device).mem_get_info(device)
        return int(free)
    found = [n for n in (_meminfo(), _cgroup_v2(), _cgroup_v1()) if n is not None]
    return max(min(found, default=_UNKNOWN_BYTES), 0)


def _meminfo() -> int | None:
    text = _text(Path("/proc/meminfo"))
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _cgroup_v2() -> int | None:
    return _left(_CGROUP, "memory.max", "memory.current", "")


def _cgroup_v1() -> int | None:
    folder = _CGROUP / "memory"
    return _left(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


def _left(folder: Path, limit_name: str, used_name: str, prefix: str) -> int | None:
    """What a group may still take. Cached pages of files count as used there, and are given
    back when they are needed."""
    limit, used = _text(folder / limit_name), _text(folder / used_name)
    if not (limit.isdigit() and used.isdigit()):
        return None
    cached = (f"{prefix}active_file", f"{prefix}inactive_file")
    lines = [line.split() for line in _text(folder / "memory.stat").splitlines()]
    pages = sum(int(n) for name, n in (line for line in lines if len(line) == 2) if name in cached)
    return int(limit) - max(int(used) - pages, 0)


def _text(path: Path) -> str:
    """What a file of the system says; empty where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
