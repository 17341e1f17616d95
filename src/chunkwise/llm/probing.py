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
from chunkwise.llm.kv.memory import Held, Positions, TokenIds
from chunkwise.llm.kv.patched import Placed
from chunkwise.llm.models.llama import Decoder, Stream
from chunkwise.llm.reuse import Evidence
from chunkwise.llm.reuse.base import highest
from chunkwise.llm.reusing import Noted, Reused, is_probing
from chunkwise.llm.scheduling.base import Slice
from chunkwise.llm.sequence import Sequence


@torch.inference_mode()
def deviations(
    model: Decoder,
    rotary: RotaryTable,
    token_ids: TokenIds,
    chunks: Items[Placed],
    evidence: Evidence,
) -> NDArray[np.float32]:
    """Squared distance of chunks' values or keys in one layer to those of a full prefill.

    Where the policy asks for survivors, these alone go on through the layers behind the check
    layer, over the other tokens as they were stored, and are measured there.

    Args:
        model: The decoder; its layers up to `evidence.check_layer`, and one for each share of
            survivors, are run, at most all.
        rotary: The engine's angles.
        token_ids: The prompt.
        chunks: Stored chunks and where they stand.
        evidence: What is compared, and where.

    Returns:
        By token of the prompt, 0 outside of chunks, -1 for tokens that did not survive:
        `(num_tokens,)`.
    """
    check = min(evidence.check_layer, model.config.num_layers - 1)
    behind = range(check + 1, model.config.num_layers)[: len(evidence.survivors)]
    blend = _Blend(model, rotary, chunks, evidence, check + 1 + len(behind))
    ids = torch.from_numpy(token_ids[: blend.end].astype(np.int64)).to(model.device)
    rows, stream = np.arange(blend.end), model.embedded(ids)
    survivors, text = blend.split()
    total = len(survivors)
    found = np.zeros(len(token_ids), np.float32)
    stream = blend.through(range(check + 1), rows, stream, found)
    for layer, share in zip(behind, evidence.survivors, strict=False):
        kept = highest(survivors, found, round(share * total))
        found[np.setdiff1d(survivors, kept)] = -1
        if not len(kept):
            break
        before, rows, survivors = rows, np.union1d(text, kept).astype(np.int64), kept
        at = torch.from_numpy(np.searchsorted(before, rows)).to(model.device)
        stream = Stream(stream.x[at], stream.residual[at])
        stream = blend.through(range(layer, layer + 1), rows, stream, found)
    return found


class _Blend:
    """A prompt up to its last chunk, of which some rows are computed and the others stored.

    Args:
        model: The decoder.
        rotary: The engine's angles.
        chunks: Stored chunks and where they stand.
        evidence: What is compared.
        depth: Layers that will be run.
    """

    def __init__(
        self,
        model: Decoder,
        rotary: RotaryTable,
        chunks: Items[Placed],
        evidence: Evidence,
        depth: int,
    ) -> None:
        self.model, self.rotary, self.chunks = model, rotary, chunks
        self.is_values, self.end = evidence.deviation == "values", chunks[-1].end
        config = model.config
        shape = depth, config.num_kv_heads, self.end, config.head_dim
        self.k, self.v = (
            torch.zeros(shape, dtype=model.dtype, device=model.device) for _ in "kv"
        )  # what is hidden must be finite

    def split(self) -> tuple[Positions, Positions]:
        """Positions of chunks' tokens, and of all others before the last chunk's end, rising."""
        runs = [np.arange(chunk.position, chunk.end, dtype=np.int32) for chunk in self.chunks]
        inside = np.concatenate(runs)
        return inside, np.setdiff1d(np.arange(self.end, dtype=np.int32), inside)

    def through(
        self, layers: range, rows: NDArray[np.int64], stream: Stream, found: NDArray[np.float32]
    ) -> Stream:
        """Compute rows through layers, over all others as they were stored; in the last of these
        layers, set in `found` how far the rows of chunks are from what was stored."""

        def tap(layer: int, q: Tensor, k: Tensor, v: Tensor) -> None:
            del q
            if layer == layers[-1]:
                self._compare(layer, rows, v if self.is_values else k, found)

        return self.model.through(layers, stream, self._plan(rows), self.rotary, tap)

    def _compare(
        self, layer: int, rows: NDArray[np.int64], computed: Tensor, found: NDArray[np.float32]
    ) -> None:
        for segment, first in self.chunks:
            low, high = np.searchsorted(rows, [first, first + segment.capacity])
            at, new = torch.from_numpy(rows[low:high] - first), computed[low:high]
            if not self.is_values:
                new = rotate(new, segment.start + at, self.rotary)
            old = (segment.v if self.is_values else segment.k)[layer][:, at.to(new.device)]
            apart = (new.float() - old.transpose(0, 1).float()).square().sum((1, 2))
            found[rows[low:high]] = apart.cpu().numpy()

    def _plan(self, rows: NDArray[np.int64]) -> AttentionPlan:
        """Rows see computed keys here, and those of chunks where they are not computed."""
        is_computed = np.zeros(self.end, np.bool_)
        is_computed[rows] = True
        parts = [_part(self.k, self.v, 0, 0, rows, ~is_computed)]
        if not is_computed.all():
            parts += [
                _part(s.k, s.v, s.start, first, rows, is_computed[first : first + s.capacity])
                for s, first in self.chunks
            ]
        starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) != 1)
        sizes = np.diff(np.append(starts, len(rows)))
        writes = [
            Write(self.k, self.v, row, n, int(rows[row]), int(rows[row]))
            for row, n in zip(starts.tolist(), sizes.tolist(), strict=True)
        ]
        return AttentionPlan(len(rows), [part for part in parts if len(part.rows)], writes)


def _part(
    k: Tensor, v: Tensor, start: int, first: int, rows: NDArray[np.int64], hides: NDArray[np.bool_]
) -> Part:
    """Keys that stand from position `first` on, for all rows behind their first one.

    Args:
        k: Keys of all layers.
        v: Values, likewise.
        start: Rotary position of key 0.
        first: Position of key 0.
        rows: Positions of the rows.
        hides: Keys that none of them sees.
    """
    seeing = np.flatnonzero(rows >= first)
    behind = rows[seeing] - first
    limits = np.minimum(behind + 1, len(hides))
    at, rel, limit = (torch.from_numpy(a) for a in (seeing, behind + start, limits))
    if not hides.any():
        return Part(k, v, start, at, rel, limit)
    none = torch.zeros(len(seeing), dtype=torch.int64)
    return Part(k, v, start, at, rel, limit, torch.from_numpy(hides[None].copy()), none)


def asked_layers(num_layers: int) -> int:
    """First layers whose attention tells where a question looks: two thirds of all. On the small
    model that comes with the package they tell as much as all, and the first half less."""
    return -(-2 * num_layers // 3)


class Probe:
    """Adds up attention of some rows of one step, layer by layer; a `Tap`: of a question over the
    chunks as they are, and of chunks that are computed alone.

    Args:
        slices: The step's slices.
        ends: One past the last row of each.
        rotary: The engine's angles.
        scale: Factor on the scores.
        num_layers: Layers of the model.
    """

    def __init__(
        self,
        slices: Items[Slice],
        ends: Items[int],
        rotary: RotaryTable,
        scale: float,
        num_layers: int,
    ) -> None:
        self.rotary, self.scale = rotary, scale
        self._asked_layers = asked_layers(num_layers)
        self._seen: list[_Asked | _Alone] = []
        for piece, end in zip(slices, ends, strict=True):
            if _is_probed(piece):
                self._seen.append(_Asked(piece, end - piece.tokens))
            elif _is_noted(piece):
                self._seen.append(_Alone(piece, end - piece.tokens))

    def __bool__(self) -> bool:
        """Whether any row is looked at."""
        return bool(self._seen)

    def done(self) -> None:
        """The step has succeeded: what was seen counts."""
        for seen in self._seen:
            seen.done()

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> None:
        """After the rows of a layer were stored."""
        del k, v
        for seen in self._seen:
            if layer >= self._asked_layers and isinstance(seen, _Asked):
                continue
            seen.add(seen.weights(layer, q, self.rotary, self.scale))


class _Rows:
    """The rows of one slice from a position on, and the keys before them."""

    def __init__(self, piece: Slice, first_row: int, position: int) -> None:
        pending = piece.sequence.pending[: piece.tokens]
        skipped = int(np.searchsorted(pending, position))
        self.rows = slice(first_row + skipped, first_row + piece.tokens)
        self.positions = torch.from_numpy(pending[skipped:].astype(np.int64))
        self.held = piece.sequence.kv.parts(int(pending[-1]) + 1)
        self.lengths = [held.length for held in self.held]
        self.at = torch.from_numpy(np.concatenate([held.positions for held in self.held]))
        hidden = self.at > self.positions[:, None]  # (rows, keys)
        self.hidden = [
            part if part.any() else None for part in torch.split(hidden, self.lengths, -1)
        ]

    def weights(self, layer: int, q: Tensor, rotary: RotaryTable, scale: float) -> Tensor:
        """Attention of the rows in a layer: `(H_kv, rows, H / H_kv, keys)` float32."""
        q = q[self.rows]
        heads = self.held[0].segment.k.shape[1]
        shape = heads, len(q), q.shape[1] // heads, sum(self.lengths)
        scores = q.new_empty(shape, dtype=torch.float32)
        each = torch.split(scores, self.lengths, -1)
        for held, hidden, out in zip(self.held, self.hidden, each, strict=True):
            _score(q, held, layer, self.positions, rotary, scale, out)
            if hidden is not None:
                out.masked_fill_(hidden[:, None].to(out.device), -torch.inf)
        return scores.softmax(-1)


class _Asked(_Rows):
    """The question rows of one slice."""

    def __init__(self, piece: Slice, first_row: int) -> None:
        self.state: Reused = piece.sequence.state["reuse"]
        super().__init__(piece, first_row, self.state.question)
        self.found = np.zeros_like(self.state.attention)
        self.ends = np.cumsum(self.lengths)
        self.is_chunk = [
            any(held.segment is chunk.segment for chunk in self.state.chunks) for held in self.held
        ]

    def add(self, weights: Tensor) -> None:
        parts = np.split(weights.sum((0, 1, 2)).cpu().numpy(), self.ends[:-1])
        for held, part, is_chunk in zip(self.held, parts, self.is_chunk, strict=True):
            if is_chunk:
                self.found[held.position : held.end] += part

    def done(self) -> None:
        self.state.attention += self.found


class _Alone(_Rows):
    """The rows of one slice that belong to a chunk computed alone."""

    def __init__(self, piece: Slice, first_row: int) -> None:
        self.sequence = piece.sequence
        self.first = _chunk_start(self.sequence)
        super().__init__(piece, first_row, self.first)
        self.is_before = self.at < self.first
        self.is_inside = ~self.is_before & (self.at < self.positions[:, None])
        self.external = torch.zeros(len(self.positions))
        self.inside = torch.zeros(len(self.positions))
        self.num_layers = 0

    def add(self, weights: Tensor) -> None:
        mean = weights.mean((0, 2)).cpu()  # (rows, keys)
        self.external += mean[:, self.is_before].sum(1)
        self.inside += (mean * self.is_inside).sum(1)
        self.num_layers += 1

    def done(self) -> None:
        n = self.sequence.num_prompt_tokens - self.first
        noted = self.sequence.state.get("noted")
        if noted is None:
            noted = Noted(self.first, np.zeros(n, np.float32), np.zeros(n, np.float32))
            self.sequence.state["noted"] = noted
        rows = self.positions.numpy() - self.first
        noted.external[rows] = self.external.numpy() / self.num_layers
        noted.inside[rows] = self.inside.numpy() / self.num_layers


def _is_probed(piece: Slice) -> bool:
    if not is_probing(piece.sequence):
        return False
    state: Reused = piece.sequence.state["reuse"]
    return int(piece.sequence.pending[piece.tokens - 1]) >= state.question


def _is_noted(piece: Slice) -> bool:
    sequence = piece.sequence
    if not sequence.request.wants_statistics:
        return False
    return int(sequence.pending[piece.tokens - 1]) >= _chunk_start(sequence)


def _chunk_start(sequence: Sequence) -> int:
    """Where the chunk begins that a sequence is computed for."""
    return sequence.num_prompt_tokens - len(sequence.request.segments[-1].token_ids)


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
