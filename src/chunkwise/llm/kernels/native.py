"""C++ kernels: built once with the compiler at hand, kept in a cache folder, called by ctypes.

No header of torch or Python is needed: the functions take addresses and strides. They use the
OpenMP runtime that torch has loaded, so there is one pool of threads. Where there is no compiler,
or the processor lacks AVX-512, `library` says so and `CpuKernels` goes on with what torch has.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)

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


def library() -> ctypes.CDLL:
    """The library, built if it is not in the cache folder.

    Raises:
        Unavailable: No compiler, no AVX-512, switched off by `CHUNKWISE_NATIVE=0`, or the build
            failed.
    """
    if os.environ.get("CHUNKWISE_NATIVE", "1") == "0":
        raise Unavailable("switched off by CHUNKWISE_NATIVE=0")
    found = _found()
    if isinstance(found, str):
        raise Unavailable(found)
    return found


@functools.cache
def _found() -> ctypes.CDLL | str:
    """The library, or why there is none: a build that fails is not tried again."""
    flags = cpu_flags()
    if missing := [flag for flag in _NEEDED if flag not in flags]:
        return f"the processor has no {missing[0]}"
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        return "no C++ compiler (g++) was found"
    try:
        path = cache_folder() / f"kernels-{_key(compiler, flags)}.so"
        if not path.exists():
            _build(compiler, path)
        return ctypes.CDLL(str(path))
    except Unavailable as exc:
        return str(exc)
    except (OSError, subprocess.SubprocessError) as exc:
        return f"the build cannot be made or loaded: {exc}"


def cpu_flags() -> frozenset[str]:
    """What the processor says it can do; empty where that is not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(found.partition(":")[2].split())


def cache_folder() -> Path:
    """Where builds are kept: `CHUNKWISE_CACHE`, else the user's cache folder, made if need be.

    Where that cannot be written (no home, a read-only one), a folder of the user's own under the
    system's for temporary files.

    Raises:
        Unavailable: There is no folder that only this user can write.
    """
    if given := os.environ.get("CHUNKWISE_CACHE"):
        wanted = [Path(given)]
    else:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        own = Path(tempfile.gettempdir()) / f"chunkwise-{os.getuid()}"
        wanted = [Path(home) / "chunkwise", own]
    for folder in wanted:
        if _is_ours(folder):
            return folder
    raise Unavailable(f"{wanted[0]} cannot be written; set CHUNKWISE_CACHE to a folder that can")


def _is_ours(folder: Path) -> bool:
    """Whether a folder is there, or can be made, and nobody else can put a library into it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return False
    is_safe = status.st_uid == os.getuid() and not status.st_mode & 0o022
    return folder.is_absolute() and is_safe and os.access(folder, os.W_OK)


def _key(compiler: str, flags: frozenset[str]) -> str:
    """Names a build by all that decides it: sources, options, compiler, processor, OpenMP."""
    digest = hashlib.blake2b(digest_size=12)
    for source in sorted(path for path in SOURCES.iterdir() if path.suffix in (".cpp", ".h")):
        digest.update(source.read_bytes())
    real = Path(shutil.which(compiler) or compiler).resolve()
    status = real.stat()  # in place of `--version`: no process at each start
    made = f"{real} {status.st_size} {status.st_mtime_ns}"
    parts = [platform.machine(), made, *_FLAGS, *_openmp(), *sorted(flags)]
    digest.update(" ".join(parts).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _build(compiler: str, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        files = [str(source) for source in sorted(SOURCES.glob("*.cpp"))]
        command = [compiler, *_FLAGS, "-fopenmp", "-shared", "-fPIC", "-o", str(made), *files]
        logger.info("building the C++ kernels, once: %s", path)
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


def _openmp() -> list[str]:
    """Link the OpenMP runtime that torch ships, by path: two of them would fight for the cores."""
    import torch

    folder = Path(torch.__file__).parent
    for place in (folder / "lib", folder.parent / "torch.libs"):
        for found in sorted(place.glob("libgomp*.so*")):
            return [str(found), f"-Wl,-rpath,{place}"]
    return []
