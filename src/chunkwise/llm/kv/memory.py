"""What KV is made of: segments, what a token costs, and how a sequence refers to a segment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from chunkwise.llm.kv.prefix import Node

TokenIds = NDArray[np.int32]
Positions = NDArray[np.int32]


class OutOfKV(Exception):
    """The KV budget has no room, even after evicting all that nobody holds.

    Internal: the engine preempts a sequence or ends a request on it.
    """

    def __init__(self, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(f"{needed_bytes} bytes of KV needed, {free_bytes} can be freed")
        self.needed_bytes, self.free_bytes = needed_bytes, free_bytes


class KVShape(NamedTuple):
    """What the keys and values of one token look like in one model."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_token(self) -> int:
        """Keys and values of one token in all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * self.dtype.itemsize


class Statistics(NamedTuple):
    """Attention of a chunk's tokens when it was computed alone behind the anchor; means over heads
    and layers.

    Attributes:
        external: Weight that each token gives to all that stands before the chunk: `(n,)` float32.
        inter: Mean weight that a token gives to one token before the chunk; 0 if there is none.
        intra: Weights within the chunk, strictly below the diagonal, summed and divided by `n²`.
    """

    external: NDArray[np.float32]
    inter: float
    intra: float


@dataclass(slots=True, eq=False)
class Segment:
    """Keys and values of a run of tokens for all layers. Compared by identity.

    Attributes:
        k: Keys, `(num_layers, num_kv_heads, capacity, head_dim)`; rows from `filled` on may hold
            anything.
        v: Values, likewise.
        token_ids: `(capacity,)`; those of the filled rows, and of rows promised to the prefix
            tree, are valid.
        start: Rotary position of key 0.
        capacity: Rows there is room for.
        filled: Rows computed so far. Those below `frozen` never change again.
        frozen: Rows that others than the writer may hold, now or later.
        refs: Sequences that hold it.
        last_used: When a sequence last took or left it, on the pool's logical clock.
        writer: The one sequence that may fill further rows, or None.
        node: Its place in the prefix tree, or None.
        at: Positions of the first `len(at)` keys, rising, where they are not one run; those behind
            them go on from the last one, at `start + j`. Then all keys are rotated from 0.
        statistics: How its tokens attended, where that was noted.
    """

    k: Tensor
    v: Tensor
    token_ids: TokenIds
    start: int
    capacity: int
    filled: int = 0
    frozen: int = 0
    refs: int = 1
    last_used: int = 0
    writer: object | None = field(default=None, repr=False)
    node: Node | None = field(default=None, repr=False)
    at: Positions | None = field(default=None, repr=False)
    statistics: Statistics | None = field(default=None, repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values, filled or not."""
        return self.k.nbytes + self.v.nbytes

    def copied(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Keys and values of some rows, in memory of their own."""
        k, v = (
            of[:, :, rows].clone(memory_format=torch.contiguous_format) for of in (self.k, self.v)
        )
        return k, v


class Held(NamedTuple):
    """One entry of what a sequence holds: the first `length` keys of a segment, from a base.

    Key `j` stands at position `base + segment.start + j` of the sequence. A row at position `m`
    has rotary position `rel = m - base` there and sees `min(length, rel - segment.start + 1)`
    keys, without those that `hides` names: `(capacity,)` bool. Of a segment whose keys are not one
    run a row sees those at positions up to its own.
    """

    segment: Segment
    base: int
    length: int
    hides: NDArray[np.bool_] | None = None

    @property
    def position(self) -> int:
        """Where key 0 stands in the sequence."""
        return self.base + self.segment.start

    @property
    def end(self) -> int:
        """Position after the last key held."""
        return self.base + self.segment.start + self.length

    @property
    def positions(self) -> Positions:
        """Where each of its keys stands: `(length,)`."""
        found = self.position + np.arange(self.length, dtype=np.int32)
        at = self.segment.at
        if at is not None:
            found[: len(at)] = at[: self.length]
        return found
