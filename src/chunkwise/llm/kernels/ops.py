"""The operations that a step of the engine is made of: shapes, types, masks by position.

`reference.py` implements all of them in plain torch and is the oracle; `cpu.py` and `cuda.py`
implement some faster and inherit the rest. `choose` decides once per engine and says why.

Letters in shapes: `rows` packed tokens of a step, of any number of sequences, without padding;
`H` query heads, `Hkv` KV heads, `D` head size. There is no prefill and no decode: what a row may
see is said by positions alone.
"""

from __future__ import annotations

import logging
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from chunkwise.errors import ConfigError

logger = logging.getLogger(__name__)

Quantization = Literal["none", "int8", "int4"]


class RotaryTable(NamedTuple):
    """Cosine and sine of every angle: `cos, sin: (max_positions, D / 2)` float32.

    The halves convention of Hugging Face: channel `i` turns with channel `i + D / 2`. A factor
    on the attention (YaRN) is multiplied into both.
    """

    cos: Tensor
    sin: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One segment and the rows of this step that look at it.

    Keys of a segment are rotated from its own start: key `j` has rotary position `start + j`. A
    row at position `m` of a sequence that holds the segment at base `b` is rotated by `m - b`.
    Row `i` sees key `j` when `j < limit[i]`, when its set of hidden keys does not hold `j` and,
    under a sliding window `w`, when `rel[i] - (start + j) < w`.

    Attributes:
        k: Keys of all layers: `(num_layers, Hkv, capacity, D)`, contiguous.
        v: Values, likewise.
        start: Rotary position of key 0.
        rows: Rows of the batch that hold it, rising: `(n,)` int64, on the CPU.
        rel: Rotary position of each of these rows, `m - b`: `(n,)` int64, on the CPU.
        limit: How many keys each of these rows sees, from key 0, at least 1: `(n,)` int64, on
            the CPU. Keys from `limit` on may hold anything, NaN included.
        hides: Sets of keys that are replaced for some sequences, by others in another segment:
            `(sets, capacity)` bool, contiguous, on the CPU; None: none. Their numbers are finite.
        hidden: Which of these sets each row does not see, -1 for none: `(n,)` int64, on the CPU;
            None if and only if `hides` is.
    """

    k: Tensor
    v: Tensor
    start: int
    rows: Tensor
    rel: Tensor
    limit: Tensor
    hides: Tensor | None = None
    hidden: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """Where a run of rows puts its keys and values: rows `row .. row + n` of the batch go to keys
    `offset .. offset + n` of the segment `k, v`, rotated by `rel, rel + 1, ...`."""

    k: Tensor
    v: Tensor
    row: int
    n: int
    offset: int
    rel: int


@dataclass(slots=True, eq=False)
class AttentionPlan:
    """Who writes where and who sees what in one step; the same for all layers.

    Attributes:
        num_rows: Rows of the batch.
        parts: Segments with the rows that see them. Each row is in at least one part.
        writes: Each row is in exactly one.
        prepared: What a kernel keeps between layers; set by `Kernels.prepare`.
    """

    num_rows: int
    parts: Sequence[Part]
    writes: Sequence[Write]
    prepared: Any = field(default=None, repr=False)


@dataclass(slots=True, eq=False)
class Weight:
    """A matrix of a linear layer as a kernel wants it; made by `Kernels.pack`.

    Attributes:
        out_features: Rows of the matrix.
        in_features: Columns of the matrix.
        quantization: How its numbers are stored.
        dense: `(out_features, in_features)`, or None where only packed forms are kept.
        bias: `(out_features,)` or None.
        packed: Further forms by name, as the kernel likes them.
        is_gated: Whether it is in a form that only `gated_linear` reads.
    """

    out_features: int
    in_features: int
    quantization: Quantization = "none"
    dense: Tensor | None = None
    bias: Tensor | None = None
    packed: dict[str, Any] = field(default_factory=dict)
    is_gated: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes held by all forms together."""
        tensors = [self.dense, self.bias, *self.packed.values()]
        return sum(t.nbytes for t in tensors if isinstance(t, Tensor))


class Kernels(ABC):
    """The operations. Inputs are not changed unless it says so; results are new tensors.

    Activations have the model's type (float32 or bfloat16); sums are taken in float32.
    """

    name: str

    @abstractmethod
    def reasons(self) -> dict[str, str]:
        """For each operation, which implementation runs and why; shown once at the start."""

    @abstractmethod
    def pack(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        quantization: Quantization = "none",
        gated: bool = False,
    ) -> Weight:
        """A matrix `(out, in)` in the form that `linear` wants, or `gated_linear`: gates above, of
        as many rows as what is below. The input is not kept alive unless the result needs it."""

    @abstractmethod
    def linear(self, x: Tensor, weight: Weight) -> Tensor:
        """`x @ weight.T + bias`: `(rows, in)` to `(rows, out)`."""

    def gated_linear(self, x: Tensor, weight: Weight) -> Tensor:
        """`silu_mul` of a linear layer of gated weights: `(rows, in)` to `(rows, out / 2)`."""
        return self.silu_mul(self.linear(x, weight))

    @abstractmethod
    def gather_rows(self, weight: Weight, rows: Tensor) -> Tensor:
        """Rows of a matrix that is not quantised: `(n,)` int64 to `(n, in)`, in its type."""

    @abstractmethod
    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """`x / sqrt(mean(x²) + eps) · weight` over the last dimension; `x` of any shape whose
        last dimension is contiguous (heads of a wider tensor, for QK-norm)."""

    @abstractmethod
    def add_rms_norm(
        self, x: Tensor, residual: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """`s = x + residual` rounded to the model's type, and `rms_norm(s)`: returns
        `(normed, s)`. May write `s` into `residual`."""

    @abstractmethod
    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """`silu(gate) · up` of `(rows, 2 · width)`, gate first: `(rows, width)`."""

    @abstractmethod
    def prepare(self, plan: AttentionPlan) -> None:
        """Compute once per step what `store` and `attend` need in every layer."""

    @abstractmethod
    def store(
        self, k: Tensor, v: Tensor, plan: AttentionPlan, layer: int, rotary: RotaryTable
    ) -> None:
        """Rotate `k` and write `k` and `v` into their segments, as `plan.writes` says.

        Args:
            k: `(rows, Hkv, D)`, not rotated; rows may be strided, the last two dimensions not.
            v: Likewise.
        """

    @abstractmethod
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
        """Attention of every row over all parts that it is in, merged by log-sum-exp.

        Args:
            q: `(rows, H, D)`, not rotated; rows may be strided. Query head `h` reads KV head
                `h // (H / Hkv)`.
            scale: Factor on the scores.
            window: Sliding window in tokens; 0: none.

        Returns:
            `(rows, H, D)`, contiguous.
        """


def choose(name: str, device: torch.device, dtype: torch.dtype) -> Kernels:
    """The kernels for one engine: `auto`, `reference`, `cpu` or `cuda`.

    `CHUNKWISE_KERNELS` overrides `auto`. Asking by name for kernels that cannot run is an error.

    Raises:
        ConfigError: No such kernels, or they cannot run on this device.
    """
    from chunkwise.llm.kernels.reference import ReferenceKernels

    asked = "`kernels`"
    if name == "auto":
        name = os.environ.get(_VARIABLE, "auto") or "auto"
        asked = _VARIABLE
    if name == "auto":
        name = device.type
    if name == "reference":
        kernels: Kernels = ReferenceKernels()
    elif name == "cpu":
        _check_device(asked, name, device)
        from chunkwise.llm.kernels.cpu import CpuKernels

        kernels = CpuKernels(dtype)
    elif name == "cuda":
        _check_device(asked, name, device)
        from chunkwise.llm.kernels.cuda import CudaKernels

        kernels = CudaKernels(dtype)
    else:
        raise ConfigError(f"{asked} must be auto, reference, cpu or cuda, got {name!r}.")
    for operation, reason in kernels.reasons().items():
        logger.info("%s: %s", operation, reason)
    return kernels


_VARIABLE = "CHUNKWISE_KERNELS"


def find_device(name: str) -> torch.device:
    """The device of a name: `cpu`, `cuda`, `cuda:1` ..., or `auto`: CUDA where there is one.

    Raises:
        ConfigError: It is none of these, or not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    if name == "cpu":
        return torch.device(name)
    found = re.fullmatch(r"cuda(?::(\d{1,3}))?", name) if isinstance(name, str) else None
    if found is None:
        raise ConfigError(f"`device` must be auto, cpu, cuda or cuda:NUMBER, got {name!r}.")
    if int(found[1] or 0) >= count:
        raise ConfigError(
            f"`device` is {name!r}, and torch finds {count or 'no'} CUDA devices here: give cpu "
            "or auto, or install a build of torch with CUDA."
        )
    return torch.device(name)


def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def _check_device(asked: str, name: str, device: torch.device) -> None:
    if device.type != name:
        raise ConfigError(
            f"{asked} is {name!r}, which cannot run on the device {str(device)!r}: "
            "give auto or reference."
        )
