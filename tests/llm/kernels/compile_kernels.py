"""Compile every Triton kernel for a CUDA device that need not be there: `compile_kernels.py 90`.

With `--all` attention in all types and head sizes too, which takes minutes.

Run by `test_triton.py`. Asserts that programs fit the memory they share and that keys and values
are loaded 16 bytes at a time, which an unknown alignment would silently prevent.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from chunkwise.llm.kernels import triton_attention, triton_elementwise, triton_linear

SHARED_BYTES = 99 * 1024  # of the smallest devices since Ampere
NAMES = {torch.bfloat16: "bf16", torch.float32: "fp32"}


def compiled(kernel: Any, capability: int, types: str, options: dict[str, Any]) -> Any:
    """`types`: of the arguments before the constants, in Triton's notation; `*` is a pointer."""
    names = kernel.arg_names
    constants = {name: value for name, value in options.items() if name in names}
    given = dict(zip(names, types.split(), strict=False))
    assert set(given) | set(constants) == set(names), (set(names), given, constants)
    signature = {name: given.get(name, "constexpr") for name in names}
    whole = [i for i, name in enumerate(names) if signature[name].startswith("*")]
    whole += [names.index(name) for name in ("q_stride",) if name in names]
    source = ASTSource(
        kernel,
        signature,
        constexprs=constants,
        attrs={(i,): [["tt.divisibility", 16]] for i in whole},
    )
    others = {name: value for name, value in options.items() if name not in names}
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=others)
    assert made.metadata.shared <= SHARED_BYTES, (kernel, options, made.metadata.shared)
    return made


def compile_attention(capability: int, dtype: torch.dtype, size: int, lanes: int) -> None:
    launch = triton_attention.launch_options(lanes, size, dtype)
    shape = {"HKV": 2, "GROUP": 4, "HALF": size // 2, "WINDOW": 0 if lanes == 16 else 9}
    shape["HIDES"] = lanes != 16
    t = NAMES[dtype]
    types = f"*{t} *i64 *i64 *u8 *fp32 *fp32 *fp32 *fp32 i32 i32 fp32"
    made = compiled(triton_attention._segment_attention, capability, types, {**shape, **launch})
    ptx = made.asm["ptx"]
    if dtype == torch.bfloat16:
        assert "cp.async.cg.shared.global" in ptx, "keys are not copied 16 bytes at a time"
        assert "mma" in ptx, "products are not on tensor cores"


def main() -> None:
    capability = int(sys.argv[1])
    compile_attention(capability, torch.bfloat16, 64, 16)
    if "--all" in sys.argv:
        for dtype, size, lanes in itertools.product(NAMES, (64, 128, 256), (16, 64)):
            compile_attention(capability, dtype, size, lanes)
    shape: dict[str, Any] = {"HEADS": 8, "SIZE": 64, "BLOCK": 64, "num_warps": 1}
    compiled(triton_attention._merge, capability, "*fp32 *fp32 *i64 *i64 *bf16", shape)
    shape = {"HEADS": 2, "HALF": 32, "BLOCK": 32, "num_warps": 1}
    types = "*bf16 *bf16 *i64 *fp32 *fp32 i32 i32 i32"
    compiled(triton_attention._store, capability, types, shape)
    row = triton_elementwise._row_options(2048)
    norm, add = triton_elementwise._rms_norm, triton_elementwise._add_rms_norm
    compiled(norm, capability, "*bf16 *bf16 *bf16 i32 i32 fp32 i32", row)
    compiled(add, capability, "*bf16 *bf16 *bf16 *bf16 fp32 i32", row)
    compiled(triton_elementwise._silu_mul, capability, "*bf16 *bf16 i32 i32", {"BLOCK": 1024})
    for int4, whole in ((False, "*i8"), (True, "*u8")):
        blocks: dict[str, Any] = {"IS_INT4": int4, "GROUP": 32}
        few = {**blocks, "HAS_BIAS": True, "BLOCK_OUT": 8, "BLOCK_IN": 512}
        types = f"*bf16 {whole} *fp32 *bf16 *bf16 i32 i32 i32 i32"
        compiled(triton_linear._linear_few, capability, types, few)
        types = f"{whole} *fp32 *bf16 i32 i32 i32"
        compiled(triton_linear._dense, capability, types, {**blocks, "BLOCK": 1024})


if __name__ == "__main__":
    main()
