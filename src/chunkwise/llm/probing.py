"""Where questions look: attention of their rows over all keys that they see, in plain torch."""

from __future__ import annotations

from collections.abc import Sequence as Items

import numpy as np
import torch
from torch import Tensor

from chunkwise.llm.kernels.ops import RotaryTable
from chunkwise.llm.kernels.reference import rotate
from chunkwise.llm.kv.memory import Held
from chunkwise.llm.reusing import Reused
from chunkwise.llm.scheduling.base import Slice


class Probe:
    """Adds up attention of the question rows of one step, layer by layer; a `Tap`.

    Args:
        slices: The step's slices.
        ends: One past the last row of each.
        rotary: The engine's angles.
        scale: Factor on the scores.
    """

    def __init__(
        self, slices: Items[Slice], ends: Items[int], rotary: RotaryTable, scale: float
    ) -> None:
        self.rotary, self.scale = rotary, scale
        self._asked = [
            _Asked(piece, end - piece.tokens)
            for piece, end in zip(slices, ends, strict=True)
            if _is_probed(piece)
        ]

    def __bool__(self) -> bool:
        """Whether any row is looked at."""
        return bool(self._asked)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> None:
        """After the rows of a layer were stored."""
        del k, v
        for asked in self._asked:
            asked.add(layer, q, self.rotary, self.scale)


class _Asked:
    """The question rows of one slice."""

    def __init__(self, piece: Slice, first_row: int) -> None:
        self.state: Reused = piece.sequence.state["reuse"]
        pending = piece.sequence.pending[: piece.tokens]
        skipped = int(np.searchsorted(pending, self.state.question))
        self.rows = slice(first_row + skipped, first_row + piece.tokens)
        self.positions = torch.from_numpy(pending[skipped:].astype(np.int64))
        self.held = piece.sequence.kv.parts(int(pending[-1]) + 1)

    def add(self, layer: int, q: Tensor, rotary: RotaryTable, scale: float) -> None:
        q = q[self.rows]
        scores = [_scores(q, held, layer, self.positions, rotary, scale) for held in self.held]
        weights = torch.cat(scores, -1).softmax(-1).sum((0, 1)).cpu().numpy()
        for held, part in zip(
            self.held, np.split(weights, np.cumsum([h.length for h in self.held])[:-1]), strict=True
        ):
            if held.hides is not None:
                self.state.attention[held.position : held.end] += part


def _is_probed(piece: Slice) -> bool:
    state = piece.sequence.state.get("reuse")
    last = int(piece.sequence.pending[piece.tokens - 1])
    return state is not None and state.is_probing and last >= state.question


def _scores(
    q: Tensor, held: Held, layer: int, positions: Tensor, rotary: RotaryTable, scale: float
) -> Tensor:
    """Scores of rows `(n, H, D)` over the keys of an entry: `(n, H, length)` float32."""
    keys = held.segment.k[layer, :, : held.length].float()
    turned = rotate(q, positions - held.base, rotary).float()
    grouped = turned.view(len(q), keys.shape[0], -1, keys.shape[-1])
    scores = torch.einsum("nhgd,hkd->nhgk", grouped, keys).flatten(1, 2) * scale
    at = held.position + torch.arange(held.length)
    if held.segment.at is not None:
        known = torch.from_numpy(held.segment.at[: held.length].astype(np.int64))
        at[: len(known)] = known
    return scores.masked_fill((at > positions[:, None])[:, None].to(scores.device), -torch.inf)
