"""C++ kernels: built once with the compiler at hand, kept in a cache folder, called by ctypes.

No header of torch or Python is needed: the functions take addresses and strides, so one build
serves every version of both. They use the OpenMP runtime that torch has loaded, so there is one
pool of threads. Where there is no compiler, or the processor lacks AVX-512, `library` says so and
`CpuKernels` goes on with what torch has.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent / "csrc"
# What -ffast-math allows, without NaN assumed away and without its start-up code, which would make
# the whole process flush subnormal numbers to zero.
_FLAGS = (
    "-O3",
    "-march=native",
    "-std=c++17",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-freciprocal-math",
    "-ffp-contract=fast",
)
_BUILD_TIMEOUT_S = 300
_NEEDED = ("avx512f", "avx512bw", "avx512vl", "avx512_bf16", "avx512_vnni")


class Unavailable(Exception):
    """The C++ kernels cannot be used here; the text says why."""


@functools.cache
def library() -> ctypes.CDLL:
    """The library, built if it is not in the cache folder.

    Raises:
        Unavailable: No compiler, no AVX-512, switched off by `CHUNKWISE_NATIVE=0`, or the build
            failed.
    """
    if os.environ.get("CHUNKWISE_NATIVE", "1") == "0":
        raise Unavailable("switched off by CHUNKWISE_NATIVE=0")
    flags = cpu_flags()
    if missing := [flag for flag in _NEEDED if flag not in flags]:
        raise Unavailable(f"the processor has no {missing[0]}")
    path = _cached(_key(flags))
    if not path.exists():
        _build(path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as exc:
        raise Unavailable(f"{path} cannot be loaded: {exc}") from exc


def cpu_flags() -> frozenset[str]:
    """What the processor says it can do; empty where that is not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(found.partition(":")[2].split())


def cache_folder() -> Path:
    """Where builds are kept: `CHUNKWISE_CACHE`, else the user's cache folder."""
    if given := os.environ.get("CHUNKWISE_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chunkwise"


def _cached(key: str) -> Path:
    return cache_folder() / f"kernels-{key}.so"


def _key(flags: frozenset[str]) -> str:
    """Names a build by all that decides it: sources, options, processor."""
    digest = hashlib.blake2b(digest_size=12)
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.read_bytes())
    digest.update(" ".join([platform.machine(), *_FLAGS, *sorted(flags)]).encode())
    return digest.hexdigest()


def _build(path: Path) -> None:
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise Unavailable("no C++ compiler (g++) was found")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            files = [str(source) for source in sorted(SOURCES.glob("*.cpp"))]
            command = [compiler, *_FLAGS, "-fopenmp", "-shared", "-fPIC", "-o", str(made), *files]
            done = subprocess.run(
                [*command, *_openmp()],
                capture_output=True,
                text=True,
                timeout=_BUILD_TIMEOUT_S,
                check=False,
            )
            if done.returncode:
                raise Unavailable(f"{compiler} failed: {done.stderr.strip()[-500:]}")
            made.replace(path)  # whole or not at all: another process may build the same
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Unavailable(f"the build failed: {exc}") from exc


def _openmp() -> list[str]:
    """Link the OpenMP runtime that torch ships, by path: two of them would fight for the cores."""
    import torch

    folder = Path(torch.__file__).parent
    for place in (folder / "lib", folder.parent / "torch.libs"):
        for found in sorted(place.glob("libgomp*.so*")):
            return [str(found), f"-Wl,-rpath,{place}"]
    return []
