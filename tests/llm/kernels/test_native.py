"""Building the C++ kernels: what stands in the way is said, and nothing is left half done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chunkwise.llm.kernels import native

CODE = """
from chunkwise.llm.kernels import native
try:
    native.library()
    print("loaded", 1e-310 * 1.0 > 0)
except native.Unavailable as exc:
    print("unavailable:", exc)
"""


def load(**changes: str | None) -> str:
    """What a fresh process says with these environment variables; None takes one away."""
    environ = {**os.environ, **{k: v for k, v in changes.items() if v is not None}}
    for name in (k for k, v in changes.items() if v is None):
        environ.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environ, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def _needs_the_processor() -> None:
    if not set(native._NEEDED) <= native.cpu_flags():
        pytest.skip("this processor has no AVX-512")


def test_it_can_be_switched_off() -> None:
    assert load(CHUNKWISE_NATIVE="0") == "unavailable: switched off by CHUNKWISE_NATIVE=0"


def test_no_compiler_is_said(tmp_path: Path) -> None:
    assert "no C++ compiler" in load(PATH=str(tmp_path), CXX=None)


def test_a_compiler_that_fails_is_said(tmp_path: Path) -> None:
    assert "failed" in load(CXX="/bin/false", CHUNKWISE_CACHE=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_damaged_build_is_said(tmp_path: Path) -> None:
    flags = native.cpu_flags()
    compiler = os.environ.get("CXX") or native.shutil.which("g++")
    if compiler is None:
        pytest.skip("no compiler")
    (tmp_path / f"kernels-{native._key(compiler, flags)}.so").write_bytes(b"\x7fELF cut short")
    assert "cannot be made or loaded" in load(CHUNKWISE_CACHE=str(tmp_path))


def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    assert "cannot be written" in load(CHUNKWISE_CACHE=str(shared))


def test_a_home_that_is_not_there_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CHUNKWISE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc/nothing")
    monkeypatch.setattr(native.tempfile, "gettempdir", lambda: str(tmp_path))
    assert native.cache_folder() == tmp_path / f"chunkwise-{os.getuid()}"


def test_subnormal_numbers_stay_what_they_are() -> None:
    said = load()
    assert said.startswith(("loaded True", "unavailable"))
