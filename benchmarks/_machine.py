"""Which machine and commit a benchmark ran on, and with which checkpoint."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def machine() -> dict[str, object]:
    """Processor, cores, Python and commit, for the JSON line of a benchmark."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "commit": _commit(),
    }


@contextmanager
def checkpoint(shape: str, folder: Path | None = None) -> Iterator[Path]:
    """A folder with random weights of a shape in bfloat16, until the end of the block; or the
    folder that is given."""
    from chunkwise.llm.models.fake import write_fake  # not every benchmark has torch in it

    with tempfile.TemporaryDirectory() as made:
        yield folder or write_fake(shape, made, dtype="bfloat16")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
