"""The CUDA kernels where there is no GPU: in Triton's interpreter, and compiled for devices.

The interpreter shows that the arithmetic is right, the compiler that a device would take it. Both
run in processes of their own, since Triton decides once whether it interprets.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent


def run(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


def test_kernels_equal_the_reference_in_the_interpreter() -> None:
    pytest.importorskip("triton", reason="pip install triton")
    found = run(
        *("-m", "pytest", str(HERE / "test_cuda.py"), "-m", "gpu", "-o", "addopts=", "--tb=short"),
        *("-p", "no:cacheprovider"),
        TRITON_INTERPRET="1",
    )
    last = found.strip().splitlines()[-1]
    assert " passed" in last
    assert "skipped" not in last


def test_kernels_compile_for_a_device(tmp_path: Path) -> None:
    compile_kernels(tmp_path, "90")


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["80", "90"])
def test_kernels_compile_in_all_types_and_sizes(capability: str, tmp_path: Path) -> None:
    compile_kernels(tmp_path, capability, "--all")


def compile_kernels(cache: Path, *arguments: str) -> None:
    pytest.importorskip("triton", reason="pip install triton")
    run(
        *(str(HERE / "compile_kernels.py"), *arguments),
        TRITON_INTERPRET="0",
        TRITON_CACHE_DIR=str(cache),
        TRITON_DEFAULT_FP_FUSION="1",
    )


def test_without_triton_all_is_plain_torch_and_says_so() -> None:
    lines = [
        "import sys",
        "sys.modules['triton'] = None",  # as if it were not installed
        "import torch",
        "from chunkwise.llm.kernels.cuda import CudaKernels",
        "from tests.llm.kernels.test_cuda import numbers, plan_of, attend_both, assert_near, Spec",
        "kernels = CudaKernels(torch.float32)",
        "assert 'plain torch' in kernels.reasons()['all operations'], kernels.reasons()",
        "plan = plan_of(2, [Spec(9, 0, [(0, 8, 9), (1, 3, 4)])], 2, 32, torch.float32)",
        "assert_near(*attend_both(plan, 4, 32, torch.float32))",
        "weight = kernels.pack(numbers(3, 64), quantization='int4')",
        "assert kernels.linear(numbers(2, 64), weight).shape == (2, 3)",
    ]
    run("-c", "\n".join(lines), TRITON_INTERPRET="1", PYTHONPATH=str(ROOT))
