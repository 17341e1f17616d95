"""Attention and writing of KV by csrc/attention.cpp: plans as flat arrays, one call a layer."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chunkwise.llm.kernels.ops import AttentionPlan, Part, RotaryTable, Write

Ints = NDArray[np.int64]


class NativeAttention:
    """Attention by C++; float32 and bfloat16, head sizes that are multiples of 16.

    Args:
        library: With `chunkwise_attend` and `chunkwise_store`.
        tiles: Use AMX where the processor has it.
    """

    def __init__(self, library: ctypes.CDLL, *, tiles: bool = True) -> None:
        self._attend, self._store = library.chunkwise_attend, library.chunkwise_store
        for function in (self._attend, self._store):
            function.restype = None
            function.argtypes = (ctypes.c_void_p, ctypes.c_int)
        self._flags = 0 if tiles else 1

    def prepare(self, plan: AttentionPlan) -> None:
        """Flatten the plan into `plan.prepared`."""
        plan.prepared = _flatten(plan)

    def attend(
        self,
        q: Tensor,
        plan: AttentionPlan,
        layer: int,
        rotary: RotaryTable,
        *,
        scale: float,
        window: int = 0,
    ) -> Tensor:
        """See `Kernels.attend`."""
        flat = self._flat(plan)
        _, heads, size = q.shape
        q = _heads_together(q)
        out = torch.empty(q.shape, dtype=q.dtype)
        if not plan.parts:
            return out
        call = flat.call
        call.q, call.out, call.q_stride = q.data_ptr(), out.data_ptr(), q.stride(0)
        call.cos, call.sin = rotary.cos.data_ptr(), rotary.sin.data_ptr()
        call.layer, call.heads, call.size = layer, heads, size
        call.window, call.scale = window, scale
        call.threads, call.is_bf16 = torch.get_num_threads(), q.dtype == torch.bfloat16
        self._attend(ctypes.addressof(call), self._flags)
        return out

    def store(
        self, k: Tensor, v: Tensor, plan: AttentionPlan, layer: int, rotary: RotaryTable
    ) -> None:
        """See `Kernels.store`."""
        flat = self._flat(plan)
        k, v = _heads_together(k), _heads_together(v)
        call = flat.writing
        call.k, call.v = k.data_ptr(), v.data_ptr()
        call.k_stride, call.v_stride = k.stride(0), v.stride(0)
        call.cos, call.sin = rotary.cos.data_ptr(), rotary.sin.data_ptr()
        call.layer, call.kv_heads, call.size = layer, k.shape[1], k.shape[2]
        call.threads, call.is_bf16 = torch.get_num_threads(), k.dtype == torch.bfloat16
        self._store(ctypes.addressof(call), 0)

    def _flat(self, plan: AttentionPlan) -> _Flat:
        if not isinstance(plan.prepared, _Flat):
            self.prepare(plan)
        flat: _Flat = plan.prepared
        return flat


def _heads_together(x: Tensor) -> Tensor:
    """Rows may be strided, the heads of a row not."""
    return x if x.stride(2) == 1 and x.stride(1) == x.shape[2] else x.contiguous()


class _Plan(ctypes.Structure):
    """`Plan` of attention.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("parts", "chains", "chain_rows", "rel", "limit")),
        ("hidden", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in ("row_first", "row_entries", "entry_chain")),
        *((name, ctypes.c_int64) for name in ("num_rows", "num_chains")),
    ]


class _Call(ctypes.Structure):
    """`Call` of attention.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("plan", "q", "out", "cos", "sin")),
        *((name, ctypes.c_int64) for name in ("q_stride", "layer", "heads", "kv_heads", "size")),
        *((name, ctypes.c_int64) for name in ("window", "threads", "is_bf16")),
        ("scale", ctypes.c_double),
    ]


class _Writing(ctypes.Structure):
    """`Writing` of elementwise.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("writes", "write_of_row", "k", "v", "cos", "sin")),
        *((name, ctypes.c_int64) for name in ("num_rows", "k_stride", "v_stride", "layer")),
        *((name, ctypes.c_int64) for name in ("kv_heads", "size", "threads", "is_bf16")),
    ]


@dataclass(slots=True)
class _Flat:
    """A plan as arrays; `arrays` keeps alive what the structures point to."""

    call: _Call
    writing: _Writing
    arrays: list[object]


def _flatten(plan: AttentionPlan) -> _Flat:
    chains = _chains(plan.parts)
    parts = [part for chain in chains for part in chain]
    arrays = _part_arrays(parts)
    arrays |= _chain_arrays(chains, plan.num_rows)
    flat = _Plan(num_rows=plan.num_rows, num_chains=len(chains))
    for name, array in arrays.items():
        setattr(flat, name, array.ctypes.data)
    call = _Call(plan=ctypes.addressof(flat), kv_heads=parts[0].k.shape[1] if parts else 0)
    writes = _write_array(plan.writes)
    of_row = np.full(plan.num_rows, -1, np.int64)
    for i, write in enumerate(plan.writes):
        of_row[write.row : write.row + write.n] = i
    writing = _Writing(
        writes=writes.ctypes.data, write_of_row=of_row.ctypes.data, num_rows=len(of_row)
    )
    return _Flat(call, writing, [flat, *arrays.values(), writes, of_row])


def _chains(parts: Sequence[Part]) -> list[list[Part]]:
    """Parts with the same rows; each list is worked through as one run of keys."""
    chains: dict[bytes, list[Part]] = {}
    for part in parts:
        chains.setdefault(part.rows.numpy().tobytes(), []).append(part)
    return list(chains.values())


def _part_arrays(parts: list[Part]) -> dict[str, Ints]:
    counts = np.array([len(part.rows) for part in parts], np.int64)
    first = np.cumsum(counts) - counts
    limit = _joined([part.limit for part in parts])
    table = np.empty((len(parts), 8), np.int64)
    for row, part in zip(table, parts, strict=True):
        _, kv_heads, capacity, size = part.k.shape
        stride = kv_heads * capacity * size
        row[:5] = part.k.data_ptr(), part.v.data_ptr(), stride, capacity, part.start
        row[7] = 0 if part.hides is None else part.hides.data_ptr()
    if len(parts):
        table[:, 5] = np.maximum.reduceat(limit, first)
    table[:, 6] = first
    hidden = _joined([_hidden(part) for part in parts])
    rel = _joined([part.rel for part in parts])
    return {"parts": table, "rel": rel, "limit": limit, "hidden": hidden}


def _hidden(part: Part) -> Tensor:
    if part.hidden is None:
        return torch.full_like(part.limit, -1)
    assert part.hides is not None, "sets of hidden keys are missing"
    assert part.hides.is_contiguous(), "read as bytes, set after set"
    return part.hidden


def _chain_arrays(chains: list[list[Part]], num_rows: int) -> dict[str, Ints]:
    rows = _joined([chain[0].rows for chain in chains])
    table = np.empty((len(chains), 5), np.int64)
    table[:, 1] = [len(chain[0].rows) for chain in chains]
    table[:, 0] = np.cumsum(table[:, 1]) - table[:, 1]
    table[:, 3] = np.cumsum([len(chain) for chain in chains])
    table[:, 2] = table[:, 3] - [len(chain) for chain in chains]
    table[:, 4] = [sum(int(part.limit.max()) for part in chain) for chain in chains]
    first = np.zeros(num_rows + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=num_rows), out=first[1:])
    return {
        "chains": table,
        "chain_rows": rows,
        "row_first": first,
        "row_entries": np.argsort(rows, kind="stable").astype(np.int64),
        "entry_chain": np.repeat(np.arange(len(chains)), table[:, 1]).astype(np.int64),
    }


def _write_array(writes: Sequence[Write]) -> Ints:
    table = []
    for write in writes:
        _, kv_heads, capacity, size = write.k.shape
        stride = kv_heads * capacity * size
        pointers = write.k.data_ptr(), write.v.data_ptr()
        table.append((*pointers, stride, capacity, write.row, write.offset, write.rel))
    return np.array(table, np.int64).reshape(-1, 7)


def _joined(tensors: list[Tensor]) -> Ints:
    if not tensors:
        return np.zeros(0, np.int64)
    return np.ascontiguousarray(np.concatenate([tensor.numpy() for tensor in tensors]))


class NativeElementwise:
    """Norms and SwiGLU by csrc/elementwise.cpp; rounding as the reference.

    Args:
        library: With `chunkwise_norm` and `chunkwise_silu_mul`.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._norm, self._silu_mul = library.chunkwise_norm, library.chunkwise_silu_mul
        self._norm.restype = self._silu_mul.restype = None
        self._norm.argtypes = (ctypes.c_void_p,)
        self._silu_mul.argtypes = (
            *(ctypes.c_void_p, ctypes.c_void_p),
            *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int),
        )

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """See `Kernels.rms_norm`."""
        out = torch.empty(x.shape, dtype=x.dtype)
        view = x if x.dim() == 3 else x.reshape(-1, 1, x.shape[-1])  # (rows, heads, D)
        self._run(view if view.stride(-1) == 1 else view.contiguous(), None, weight, out, eps)
        return out

    def add_rms_norm(
        self, x: Tensor, residual: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """See `Kernels.add_rms_norm`. The sum is written into `residual`."""
        x, residual = x.contiguous(), residual.contiguous()
        out = torch.empty(x.shape, dtype=x.dtype)
        self._run(x.view(-1, 1, x.shape[-1]), residual, weight, out, eps)
        return out, residual

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """See `Kernels.silu_mul`."""
        x = gate_up if gate_up.stride(-1) == 1 else gate_up.contiguous()
        rows, width = x.shape[0], x.shape[1] // 2
        out = torch.empty((rows, width), dtype=x.dtype)
        sizes = rows, width, x.stride(0), torch.get_num_threads(), x.dtype == torch.bfloat16
        self._silu_mul(x.data_ptr(), out.data_ptr(), *sizes)
        return out

    def _run(
        self, x: Tensor, residual: Tensor | None, weight: Tensor, out: Tensor, eps: float
    ) -> None:
        rows, inner, width = x.shape
        call = _Norm(
            x=x.data_ptr(),
            residual=None if residual is None else residual.data_ptr(),
            weight=weight.data_ptr(),
            out=out.data_ptr(),
            rows=rows,
            inner=inner,
            row_stride=x.stride(0),
            inner_stride=x.stride(1),
            width=width,
            threads=torch.get_num_threads(),
            is_bf16=x.dtype == torch.bfloat16,
            eps=eps,
        )
        self._norm(ctypes.addressof(call))


class _Norm(ctypes.Structure):
    """`Norm` of elementwise.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("x", "residual", "weight", "out")),
        *((name, ctypes.c_int64) for name in ("rows", "inner", "row_stride", "inner_stride")),
        *((name, ctypes.c_int64) for name in ("width", "threads", "is_bf16")),
        ("eps", ctypes.c_double),
    ]
