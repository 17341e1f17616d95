"""How much memory this process may still take."""

from __future__ import annotations

from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")
_UNKNOWN_BYTES = 4 * 2**30
"""What is assumed where the system does not say."""


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
    limit, used = _text(_CGROUP / "memory.max"), _text(_CGROUP / "memory.current")
    return int(limit) - int(used) if limit.isdigit() and used.isdigit() else None


def _cgroup_v1() -> int | None:
    folder = _CGROUP / "memory"
    limit, used = _text(folder / "memory.limit_in_bytes"), _text(folder / "memory.usage_in_bytes")
    return int(limit) - int(used) if limit.isdigit() and used.isdigit() else None


def _text(path: Path) -> str:
    """What a file of the system says; empty where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
