"""Linear layers on the CPU: which of the C++ kernels or torch's own operations runs.

What limits a product depends on its rows. With few, every weight is read for little work: the
time is the bytes of the weights over the memory bandwidth, and 8- or 4-bit weights are faster in
proportion. With many, the arithmetic is the limit and widened weights cost nothing. See
`csrc/linear_amx.h`, `csrc/linear_vectors.h` and `csrc/linear_quant.h` for how each is done.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_long, c_void_p
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from chunkwise.llm.kernels import native
from chunkwise.llm.kernels.ops import Quantization, Weight
from chunkwise.llm.kernels.reference import INT4_GROUP, dequantize, quantize

_AMX_ROWS, _VECTOR_ROWS = 8, 24
"""From how many rows on widening weights, for AMX or for vectors, beats integer dot products."""

_TILE_PAIR = 32
"""Outputs, and columns, of the two tiles side by side that bfloat16 weights are packed in."""

_ALIGNMENT = 32
"""Numbers of bfloat16 in a line of the cache: a tile's row must not lie on two."""

_COLUMN_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
_OUTPUTS = 32
"""Packed weights are padded to a multiple of this many outputs: two AMX tiles."""

_INT8_OP_ROWS = 16
"""Up to how many rows torch's int8 product is used where there is no C++."""


class CpuLinear:
    """`Kernels.pack` and `Kernels.linear` on the CPU.

    float32 weights that are not quantised go to torch. Of every weight one form is kept: the
    row-major matrix as it was given, its tiles (bfloat16, `csrc/linear_tiles.h`), or the quantised
    numbers.

    With the C++ kernels, quantised weights meet float32 activations, and few rows of bfloat16
    ones, as 16-bit whole numbers with a scale per row and 32 columns; many rows of bfloat16 meet
    weights widened to bfloat16. Scales of int4 are kept in float16, relative to one per row. So
    results differ from the reference by at most 2^-8 of `|x| @ |weight|.T` in bfloat16 and 2^-10
    of it in float32 (2^-14 in int8).

    Args:
        dtype: Of the activations: float32 or bfloat16.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._native, self._why_not = _load()
        self._amx = self._native is not None and bool(self._native.has_amx())

    def reasons(self) -> dict[str, str]:
        """See `Kernels.reasons`."""
        if self._native is None:
            how = {"linear": "torch", "linear (int8, int4)": "torch"}
            return {name: f"{choice}: {self._why_not}" for name, choice in how.items()}
        dense = "torch"
        if self.dtype == torch.bfloat16:
            dense = f"C++ on {'AMX tiles' if self._amx else 'AVX-512 vectors of bfloat16'}"
        elif self.dtype == torch.float32:
            dense = "torch: the C++ kernels are for bfloat16"
        many = "; many rows: widened to bfloat16" if self.dtype == torch.bfloat16 else ""
        return {"linear": dense, "linear (int8, int4)": f"C++ on AVX-512 VNNI{many}"}

    def pack(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        quantization: Quantization = "none",
        gated: bool = False,
    ) -> Weight:
        """See `Kernels.pack`."""
        out_features, in_features = weight.shape
        result = Weight(out_features, in_features, quantization, None, bias)
        is_narrow = weight.dtype == torch.bfloat16
        if quantization == "none" and self._native is not None and is_narrow:
            result.packed = {"tiles": _pack_tiles(self._native, weight.contiguous(), gated=gated)}
            result.is_gated = gated
        elif quantization == "none":
            result.dense = weight.contiguous()
        elif self._native is not None:
            result.packed = _pack_native(*quantize(weight, quantization), quantization)
        else:
            whole, scales = quantize(weight, quantization)
            result.packed = {"whole": whole, "scales": scales}
        if bias is not None:
            result.packed["bias"] = bias.float().contiguous()
        return result

    def linear(self, x: Tensor, weight: Weight) -> Tensor:
        """See `Kernels.linear`; of gated tiles, `Kernels.gated_linear`."""
        if weight.dense is not None:
            return F.linear(x, weight.dense, weight.bias)
        if self._native is None:
            return _quantized_torch(x, weight)
        if "tiles" in weight.packed:
            return self._tiled(self._native, x, weight)
        return self._quantized(self._native, x, weight)

    def gather_rows(self, weight: Weight, rows: Tensor) -> Tensor:
        """See `Kernels.gather_rows`."""
        if weight.dense is not None:
            return F.embedding(rows, weight.dense)
        depth = -(-weight.in_features // _TILE_PAIR)
        units = weight.packed["tiles"].view(torch.int32).view(-1, depth, 2, 16, 16)
        pairs: Tensor = units[rows // 32, :, rows // 16 % 2, :, rows % 16]  # (n, tiles along k, 16)
        return pairs.view(self.dtype).flatten(1)[:, : weight.in_features].contiguous()

    def _tiled(self, functions: _Functions, x: Tensor, weight: Weight) -> Tensor:
        outputs = weight.out_features // 2 if weight.is_gated else weight.out_features
        out = x.new_empty((x.shape[0], outputs))
        bias = weight.packed.get("bias")
        functions.tiled(
            x.data_ptr(),
            x.stride(0),
            x.shape[0],
            weight.packed["tiles"].data_ptr(),
            outputs,
            weight.in_features,
            weight.is_gated,
            None if bias is None else bias.data_ptr(),
            out.data_ptr(),
            self._amx,
            torch.get_num_threads(),
        )
        return out

    def _quantized(self, functions: _Functions, x: Tensor, weight: Weight) -> Tensor:
        out = x.new_empty((x.shape[0], weight.out_features))
        packed = weight.packed
        bias = packed.get("bias")
        functions.quantized(
            x.data_ptr(),
            x.stride(0),
            x.shape[0],
            x.dtype == torch.float32,
            packed["blocks"].data_ptr(),
            packed["scales"].data_ptr(),
            weight.out_features,
            weight.in_features,
            8 if weight.quantization == "int8" else 4,
            None if bias is None else bias.data_ptr(),
            out.data_ptr(),
            _AMX_ROWS if self._amx else _VECTOR_ROWS,
            self._amx,
            torch.get_num_threads(),
        )
        return out


class _Functions(NamedTuple):
    """Functions of `csrc/linear.cpp`, with their argument types set once."""

    has_amx: ctypes._NamedFuncPointer
    pack: ctypes._NamedFuncPointer
    tiled: ctypes._NamedFuncPointer
    quantized: ctypes._NamedFuncPointer


def _load() -> tuple[_Functions | None, str]:
    """The C++ functions, or None and why not."""
    try:
        library = native.library()
    except native.Unavailable as exc:
        return None, str(exc)
    functions = _Functions(
        library.cw_linear_has_amx,
        library.cw_linear_pack,
        library.cw_linear_bf16,
        library.cw_linear_quant,
    )
    p, n = c_void_p, c_long
    functions.has_amx.argtypes, functions.has_amx.restype = [], c_int
    functions.pack.argtypes = [p, n, n, c_int, p, c_int]
    functions.tiled.argtypes = [p, n, n, p, n, n, c_int, p, p, c_int, c_int]
    functions.quantized.argtypes = [p, n, n, c_int, p, p, n, n, c_int, p, p, n, c_int, c_int]
    functions.pack.restype = functions.tiled.restype = functions.quantized.restype = None
    return functions, ""


def _pack_tiles(functions: _Functions, weight: Tensor, *, gated: bool) -> Tensor:
    """Tiles as `csrc/linear_tiles.h` says: `(numbers,)` bfloat16, rows and columns rounded up."""
    rows, columns = weight.shape
    half = rows // 2 if gated else rows
    unit = _TILE_PAIR // 2 if gated else _TILE_PAIR  # rows of a half
    numbers = -(-half // unit) * _TILE_PAIR * (columns + -columns % _TILE_PAIR)
    whole = torch.empty(numbers + _ALIGNMENT, dtype=torch.bfloat16)
    tiles = whole[-whole.data_ptr() // 2 % _ALIGNMENT :][:numbers]
    threads = torch.get_num_threads()
    functions.pack(weight.data_ptr(), rows, columns, gated, tiles.data_ptr(), threads)
    return tiles


def _pack_native(whole: Tensor, scales: Tensor, quantization: Quantization) -> dict[str, Tensor]:
    """Blocks of 16 outputs x 32 columns as `csrc/linear_quant.h` says, and scales of rows."""
    rows, columns = whole.shape
    padded = F.pad(whole, (0, -columns % INT4_GROUP, 0, -rows % _OUTPUTS))
    scales = F.pad(scales, (0, 0, 0, -rows % _OUTPUTS))
    eights = padded.view(len(padded) // 16, 16, -1, 4, 8)[..., list(_COLUMN_ORDER)]
    # (blocks, groups, 4 vectors, low or high, 16 outputs, 4 columns)
    parts = eights.reshape(*eights.shape[:-1], 2, 4).permute(0, 2, 3, 4, 1, 5)
    if quantization == "int8":
        blocks = (parts.contiguous().view(torch.uint8) ^ 0x80).flatten()
        return {"blocks": blocks, "scales": scales[:, 0].contiguous()}
    low, high = (parts + 8).to(torch.uint8).unbind(3)
    numbers = (low | high << 4).flatten(2)
    row_scales = scales.amax(1).clamp_min(torch.finfo(torch.float32).tiny)
    shares = (scales / row_scales[:, None]).half().view(-1, 16, scales.shape[1])
    share_bytes = shares.transpose(1, 2).contiguous().view(torch.uint8)  # (blocks, groups, 32)
    blocks = torch.cat([numbers, share_bytes], dim=-1).flatten()
    return {"blocks": blocks, "scales": row_scales}


def _quantized_torch(x: Tensor, weight: Weight) -> Tensor:
    whole, scales = weight.packed["whole"], weight.packed["scales"]
    # torch's product reads past the end of matrices whose sides are not multiples of its vectors
    whole_vectors = weight.in_features % 64 == 0 and weight.out_features % 64 == 0
    few = 0 < len(x) <= _INT8_OP_ROWS and x.dtype == torch.bfloat16
    if weight.quantization == "int8" and few and whole_vectors:
        out: Tensor = torch._weight_int8pack_mm(x.contiguous(), whole, scales[:, 0].to(x.dtype))
        return out if weight.bias is None else out + weight.bias
    return F.linear(x, dequantize(whole, scales).to(x.dtype), weight.bias)
