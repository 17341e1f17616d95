"""What policies want to know: where a question looks, and how far chunks are from a full prefill.

Plain torch over what the kernels have stored: few rows, or few layers.
"""

from __future__ import annotations

from collections.abc import Sequence as Items

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chunkwise.llm.kernels.ops import AttentionPlan, Part, RotaryTable, Write
from chunkwise.llm.kernels.reference import rotate
from chunkwise.llm.kv.memory import Held, TokenIds
from chunkwise.llm.kv.patched import Placed
from chunkwise.llm.models.llama import Decoder
from chunkwise.llm.reuse import Evidence
from chunkwise.llm.reusing import Reused
from chunkwise.llm.scheduling.base import Slice


@torch.inference_mode()
def deviations(
    model: Decoder,
    rotary: RotaryTable,
    token_ids: TokenIds,
    chunks: Items[Placed],
    evidence: Evidence,
) -> NDArray[np.float32]:
    """Squared distance of chunks' values or keys in one layer to those of a full prefill.

    Args:
        model: The decoder; its layers up to `evidence.check_layer` are run, at most all.
        rotary: The engine's angles.
        token_ids: The prompt.
        chunks: Stored chunks and where they stand.
        evidence: What is compared, and where.

    Returns:
        By token of the prompt, 0 outside of chunks: `(num_tokens,)`.
    """
    config, count = model.config, len(token_ids)
    depth = min(evidence.check_layer + 1, config.num_layers)
    shape = depth, config.num_kv_heads, count, config.head_dim
    k, v = (torch.empty(shape, dtype=model.dtype, device=model.device) for _ in "kv")
    rows = torch.arange(count)
    plan = AttentionPlan(
        count, [Part(k, v, 0, rows, rows, rows + 1)], [Write(k, v, 0, count, 0, 0)]
    )
    seen: list[tuple[Tensor, Tensor]] = []

    def tap(layer: int, q: Tensor, k: Tensor, v: Tensor) -> None:
        del q
        if layer == depth - 1:
            seen.append((k, v))

    ids = torch.from_numpy(token_ids.astype(np.int64)).to(model.device)
    model.forward(ids, plan, rotary, tap, depth=depth)
    new_k, new_v = seen[0]
    found = np.zeros(count, np.float32)
    for segment, first in chunks:
        run = slice(first, first + segment.capacity)
        if evidence.deviation == "values":
            new, old = new_v[run], segment.v[depth - 1]
        else:
            at = segment.start + torch.arange(segment.capacity)
            new, old = rotate(new_k[run], at, rotary), segment.k[depth - 1]
        apart = (new.float() - old.transpose(0, 1).float()).square().sum((1, 2))
        found[run] = apart.cpu().numpy()
    return found


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

    def done(self) -> None:
        """The step has succeeded: what was seen counts."""
        for asked in self._asked:
            asked.state.attention += asked.found

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
        self.found = np.zeros_like(self.state.attention)
        self.rows = slice(first_row + skipped, first_row + piece.tokens)
        self.positions = torch.from_numpy(pending[skipped:].astype(np.int64))
        self.held = piece.sequence.kv.parts(int(pending[-1]) + 1)
        self.ends = np.cumsum([held.length for held in self.held])
        self.is_chunk = [
            any(held.segment is chunk.segment for chunk in self.state.chunks) for held in self.held
        ]
        self.hidden = [
            torch.from_numpy(held.positions) > self.positions[:, None]  # (rows, keys)
            for held in self.held
        ]

    def add(self, layer: int, q: Tensor, rotary: RotaryTable, scale: float) -> None:
        q = q[self.rows]
        heads = self.held[0].segment.k.shape[1]
        shape = heads, len(q), q.shape[1] // heads, int(self.ends[-1])
        scores = q.new_empty(shape, dtype=torch.float32)
        each = torch.split(scores, [held.length for held in self.held], -1)
        for held, hidden, out in zip(self.held, self.hidden, each, strict=True):
            _score(q, held, layer, self.positions, rotary, scale, out)
            if hidden.any():
                out.masked_fill_(hidden[:, None].to(out.device), -torch.inf)
        weights = scores.softmax(-1).sum((0, 1, 2)).cpu().numpy()
        parts = np.split(weights, self.ends[:-1])
        for held, part, is_chunk in zip(self.held, parts, self.is_chunk, strict=True):
            if is_chunk:
                self.found[held.position : held.end] += part


def _is_probed(piece: Slice) -> bool:
    state: Reused | None = piece.sequence.state.get("reuse")
    if state is None or not state.is_probing:
        return False
    return int(piece.sequence.pending[piece.tokens - 1]) >= state.question


def _score(
    q: Tensor,
    held: Held,
    layer: int,
    positions: Tensor,
    rotary: RotaryTable,
    scale: float,
    out: Tensor,
) -> None:
    """Scores of rows `(n, H, D)` over the keys of an entry, into `(H_kv, n, H / H_kv, length)`."""
    keys = held.segment.k[layer, :, : held.length].float()
    turned = rotate(q, positions - held.base, rotary).float() * scale
    grouped = turned.view(len(q), len(keys), -1, keys.shape[-1]).transpose(0, 1).flatten(1, 2)
    torch.bmm(grouped, keys.transpose(1, 2), out=out.view(*grouped.shape[:2], held.length))
