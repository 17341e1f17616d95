"""One step: slices of sequences become one packed batch, and the batch becomes logits."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chunkwise.llm.kernels.ops import AttentionPlan, Part, RotaryTable, Write
from chunkwise.llm.kv.segments import Held, Segment
from chunkwise.llm.models.llama import Decoder
from chunkwise.llm.probing import Probe, asked_layers
from chunkwise.llm.reusing import is_only_asked, is_passing
from chunkwise.llm.scheduling.base import Slice
from chunkwise.llm.sequence import Sequence

Hides = tuple[NDArray[np.bool_], NDArray[np.int64]]
"""Sets of hidden keys `(sets, capacity)`, and the set of each row, -1 for none."""


class ScoredRows(NamedTuple):
    """Logits of prompt rows whose next token is known and wanted.

    Attributes:
        sequence: Whose prompt it is.
        first: Prompt position of the token that the first row predicts.
        logits: `(n, vocab)` float32; n is small, as rows are wide.
    """

    sequence: Sequence
    first: int
    logits: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """A packed step: no padding, rows of one slice next to each other.

    Attributes:
        token_ids: `(rows,)` int64.
        plan: Who writes where and who sees what.
        ends: For each slice, one past its last row: `(num_slices,)`.
    """

    token_ids: Tensor
    plan: AttentionPlan
    ends: NDArray[np.int64]


class StepResult(NamedTuple):
    """What a step computed.

    Attributes:
        logits: `(n, vocab)` float32, of the sequences that have nothing pending after it.
        sampled: Which slices these are.
        passed: Slices of sequences that have nothing pending either, but were computed for
            something else than a token.
        failed: Slices with a row that is not finite; their KV must not be used.
    """

    logits: Tensor
    sampled: list[int]
    passed: list[int]
    failed: list[int]


class Runner:
    """Runs a decoder over slices. Room for the slices' positions must have been reserved."""

    def __init__(self, model: Decoder, rotary: RotaryTable) -> None:
        self.model, self.rotary = model, rotary

    @torch.inference_mode()
    def run(self, slices: Items[Slice], score: Callable[[ScoredRows], None]) -> StepResult:
        """Compute the slices' pending positions.

        Args:
            slices: Whose, and how many.
            score: Takes the logits of prompt rows that are to be scored, a few at a time.
        """
        batch = pack(slices)
        device = self.rotary.cos.device
        model = self.model
        probe = Probe(
            slices, batch.ends.tolist(), self.rotary, model.scale, model.config.num_layers
        )
        hidden = self.model.forward(
            batch.token_ids.to(device),
            batch.plan,
            self.rotary,
            probe if probe else None,
            depth=self._depth(slices),
        )
        probe.done()
        failed = _not_finite(hidden, batch)
        done = [
            i
            for i, piece in enumerate(slices)
            if piece.tokens == len(piece.sequence.pending) and i not in failed
        ]
        passed = [i for i in done if is_passing(slices[i].sequence)]
        sampled = [i for i in done if i not in passed]
        for i, piece in enumerate(slices):
            if piece.sequence.request.score_from is not None and i not in failed:
                self._score(piece, hidden[batch.ends[i] - piece.tokens : batch.ends[i]], score)
        rows = torch.from_numpy(batch.ends[np.array(sampled, dtype=np.int64)] - 1).to(device)
        return StepResult(self.model.logits(hidden[rows]), sampled, passed, failed)

    def _depth(self, slices: Items[Slice]) -> int | None:
        """Layers that the slices need: those that tell where a question looks, or None for all."""
        if all(is_only_asked(piece.sequence) for piece in slices):
            return asked_layers(self.model.config.num_layers)
        return None

    def _score(self, piece: Slice, hidden: Tensor, score: Callable[[ScoredRows], None]) -> None:
        """Hand over the logits of the rows of a slice whose next token is to be scored.

        Args:
            piece: The slice.
            hidden: Its hidden states: `(piece.tokens, width)`.
            score: Takes them.
        """
        sequence, first = piece.sequence, int(piece.sequence.pending[0])
        low = max((sequence.request.score_from or 0) - 1, first)
        high = min(first + piece.tokens, sequence.num_prompt_tokens - 1)
        for start in range(low, high, _SCORED_ROWS):
            rows = hidden[start - first : min(start + _SCORED_ROWS, high) - first]
            score(ScoredRows(sequence, start + 1, self.model.logits(rows)))


_SCORED_ROWS = 64
"""Logits of a large vocabulary are 0.6 MB a row."""


def pack(slices: Items[Slice]) -> Batch:
    """The packed batch of a step."""
    sizes = np.array([piece.tokens for piece in slices], dtype=np.int64)
    ends = sizes.cumsum()
    positions = np.concatenate([s.sequence.pending[: s.tokens] for s in slices]).astype(np.int64)
    ids = np.concatenate([s.sequence.tokens[s.sequence.pending[: s.tokens]] for s in slices])
    writes: list[Write] = []
    held: list[tuple[Held, int, int]] = []
    for piece, start, size in zip(slices, (ends - sizes).tolist(), sizes.tolist(), strict=True):
        kv, mine = piece.sequence.kv, piece.sequence.pending[:size]
        row = start
        for segment, offset, n, rel in kv.writes(mine):
            writes.append(Write(segment.k, segment.v, row, n, offset, rel))
            row += n
        held.extend((entry, start, size) for entry in kv.parts(int(mine[-1]) + 1))
    plan = AttentionPlan(len(positions), _parts(held, positions), writes)
    return Batch(torch.from_numpy(ids.astype(np.int64)), plan, ends)


def _parts(held: list[tuple[Held, int, int]], positions: NDArray[np.int64]) -> list[Part]:
    """One part for each segment, with the rows of all sequences that hold it stacked."""
    by_segment: dict[tuple[int, bool], list[int]] = {}
    for i, (entry, _, _) in enumerate(held):
        # Rows that see what this step writes stand apart: if that is NaN, it stays with them.
        is_written = entry.length > entry.segment.filled
        by_segment.setdefault((id(entry.segment), is_written), []).append(i)
    order = [i for group in by_segment.values() for i in group]
    columns = np.array(
        [(h.base, h.segment.start, h.length, row, n) for h, row, n in (held[i] for i in order)],
        dtype=np.int64,
    )
    n = columns[:, 4]
    base, start, length, row = np.repeat(columns[:, :4], n, axis=0).T
    rows = row + np.arange(len(row)) - np.repeat(n.cumsum() - n, n)
    rel = positions[rows] - base
    limit = np.minimum(length, rel - start + 1)
    for i, end in zip(order, n.cumsum().tolist(), strict=True):
        if held[i][0].segment.at is not None:
            _limit_scattered(held[i][0], positions[rows[end - held[i][2] : end]], limit, end)
    sizes = [int(sum(held[i][2] for i in group)) for group in by_segment.values()]
    segments = [held[group[0]][0].segment for group in by_segment.values()]
    hides = [_hides([held[i] for i in group]) for group in by_segment.values()]
    if (limit < 1).any():  # rows that stand before the segment do not see it
        part = np.repeat(np.arange(len(sizes)), sizes)[limit > 0]
        seen = np.split(limit > 0, np.cumsum(sizes)[:-1])
        hides = [h and (h[0], h[1][s]) for h, s in zip(hides, seen, strict=True)]
        rows, rel, limit = rows[limit > 0], rel[limit > 0], limit[limit > 0]
        sizes = np.bincount(part, minlength=len(sizes)).tolist()
    return _views(segments, sizes, rows, rel, limit, hides)


def _limit_scattered(
    held: Held, positions: NDArray[np.int64], limit: NDArray[np.int64], end: int
) -> None:
    """Set how many keys rows see of a segment whose keys are not one run; rows behind all of
    these see as many as of a run.

    Args:
        held: The entry.
        positions: Of the rows that hold it.
        limit: Of all rows; those up to `end` are set.
        end: One past the last of these rows.
    """
    at = held.segment.at
    assert at is not None, "its keys are one run"
    if positions[0] <= at[-1]:
        count = np.searchsorted(at, positions, side="right")
        behind = np.maximum(positions - int(at[-1]), 0)
        limit[end - len(positions) : end] = np.minimum(count + behind, held.length)


def _hides(group: list[tuple[Held, int, int]]) -> Hides | None:
    """The sets of hidden keys of all who hold one segment, and which each of their rows has."""
    sets = {id(h.hides): h.hides for h, _, _ in group if h.hides is not None}
    if not sets:
        return None
    number = {key: i for i, key in enumerate(sets)}
    which = [number.get(id(h.hides), -1) for h, _, _ in group]
    return np.stack(list(sets.values())), np.repeat(which, [n for _, _, n in group])


def _not_finite(hidden: Tensor, batch: Batch) -> list[int]:
    """Slices with a hidden state that holds NaN or infinity: `hidden` is `(rows, width)`."""
    is_bad = ~torch.isfinite(hidden.sum(-1, dtype=torch.float32))
    if not bool(is_bad.any()):
        return []
    rows = is_bad.nonzero()[:, 0].cpu().numpy()
    return sorted(set(np.searchsorted(batch.ends, rows, side="right").tolist()))


def _views(
    segments: list[Segment],
    sizes: list[int],
    rows: NDArray[np.int64],
    rel: NDArray[np.int64],
    limit: NDArray[np.int64],
    hides: list[Hides | None],
) -> list[Part]:
    """Parts whose arrays are views of three flat ones; segments that no row sees are left out."""
    columns = [torch.split(torch.from_numpy(a), sizes) for a in (rows, rel, limit)]
    return [
        Part(s.k, s.v, s.start, *arrays, *(map(torch.from_numpy, hidden) if hidden else ()))
        for s, size, hidden, *arrays in zip(segments, sizes, hides, *columns, strict=True)
        if size
    ]
