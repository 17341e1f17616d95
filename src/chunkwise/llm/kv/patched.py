"""A sequence that holds chunks whose KV was computed elsewhere, and its own rows between them.

The prompt is an exact prefix, then chunks that stand where they stand, and one segment of its own
with all other positions: what lies between the chunks, and those tokens of the chunks that are
computed afresh. These keys of the chunks are hidden from this sequence, so a chunk stays one
segment for all who hold it, whatever each has repaired of it. The completion grows as usual.

Source: DESIGN.md section 4; selective recompute as in CacheBlend (arXiv 2405.16444).
Differs: nothing is copied or written over: a repaired token is a key more in the sequence's own
    segment and a key less of the chunk. Rows attend by their positions, never to later ones.
Exact when: every position of every chunk is computed afresh.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from chunkwise.llm.kv.memory import Held, Positions, Segment, TokenIds
from chunkwise.llm.kv.pool import SegmentPool
from chunkwise.llm.kv.segments import SequenceKV, WriteRange
from chunkwise.llm.kv.store import ChunkStore


class Placed(NamedTuple):
    """A chunk's segment and the position where its key 0 stands in a sequence."""

    segment: Segment
    position: int

    @property
    def end(self) -> int:
        """Position after its last key."""
        return self.position + self.segment.capacity


class Layout(NamedTuple):
    """What a prompt is made of.

    Attributes:
        prefix: Positions before the first chunk.
        chunks: In order, without overlap, from the end of the prefix on.
        fresh: Positions to be computed behind the prefix, rising: all that no chunk has, and
            those of the chunks that are repaired. The last one of the prompt is among them.
    """

    prefix: int
    chunks: tuple[Placed, ...]
    fresh: Positions

    @property
    def end(self) -> int:
        """Length of the prompt."""
        return int(self.fresh[-1]) + 1


class PatchedKV(SequenceKV):
    """See `SequenceKV`. `match` the prefix before the first chunk, then `lay_out` the prompt; the
    rest as usual.

    Attributes:
        chunks: Where the chunks are from; it counts their holders.
        prompt_end: Length of the prompt, once there is room for its rows; 0 before.
    """

    __slots__ = ("_layout", "_prefix", "chunks", "prompt_end")

    holds_chunks: ClassVar[bool] = True

    def __init__(
        self, pool: SegmentPool, chunks: ChunkStore, *, piece_tokens: int = 64, join_pieces: int = 4
    ) -> None:
        super().__init__(pool, piece_tokens=piece_tokens, join_pieces=join_pieces)
        self.chunks = chunks
        self.prompt_end = self._prefix = 0
        self._layout: Layout | None = None

    def lay_out(self, layout: Layout) -> None:
        """Say what the prompt is made of; the chunks are held from now on. Where it was laid out
        otherwise before, all behind the prefix is dropped."""
        assert self._layout is not None or not self.prompt_end, "laid out without a layout"
        for placed in layout.chunks:
            self.chunks.retain(placed.segment)
        self._forget()
        self._layout = layout

    def reserve(self, position_end: int, token_ids: TokenIds, *, hint: int = 0) -> None:
        """See `SequenceKV.reserve`; all rows of the prompt behind the prefix get room at once."""
        layout = self._layout
        if layout is None or position_end > layout.end:
            super().reserve(position_end, token_ids, hint=hint if layout is None else 0)
            return
        if self.num_reserved < layout.prefix:
            super().reserve(layout.prefix, token_ids, hint=layout.prefix)
        if position_end > layout.prefix and not self.prompt_end:
            self._place(layout, token_ids, max(hint - layout.end, 0))

    def _place(self, layout: Layout, token_ids: TokenIds, room: int) -> None:
        fresh, end = layout.fresh, layout.end
        own = self._allocate(len(fresh), len(fresh) + room, end - len(fresh))
        own.writer, own.at = self, fresh
        own.token_ids[: len(fresh)] = token_ids[fresh]
        self._prefix = len(self.entries)
        self.entries += [_held(placed, fresh) for placed in layout.chunks]
        self.entries.append(Held(own, 0, own.capacity))
        self.prompt_end = end

    def _forget(self) -> None:
        """Drop the layout and all that stands behind the prefix."""
        if self._layout is None:
            return
        if self.prompt_end:
            while len(self.entries) > self._prefix:
                if not self._is_chunk(held := self.entries.pop()):
                    super()._drop(held, keep=False)
            self.num_tokens = min(self.num_tokens, self._layout.prefix)
        for placed in self._layout.chunks:
            self.chunks.release(placed.segment)
        self._layout, self.prompt_end, self._prefix = None, 0, 0

    def writes(self, positions: Positions) -> list[WriteRange]:
        """See `SequenceKV.writes`."""
        if not self.prompt_end:
            return super().writes(positions)
        own = self._own()
        assert own.at is not None, "placed with positions"
        first = int(own.at[0])
        low, high = np.searchsorted(positions, [first, self.prompt_end])
        found = []
        if low:
            found += self._prefix_ranges(int(positions[0]), int(positions[low - 1]) + 1)
        if low < high:
            found += _runs(own, positions[low:high])
        if high < len(positions):
            found += self.write_ranges(int(positions[high]), int(positions[-1]) + 1)
        return found

    def mark_computed(self, end: int) -> None:
        """See `SequenceKV.mark_computed`."""
        if not self.prompt_end:
            super().mark_computed(end)
            return
        assert self.num_tokens <= end <= self.num_reserved, f"position {end} is not reserved"
        for segment, offset, n, _ in self._prefix_ranges(self.num_tokens, end):
            segment.filled = offset + n
        own = self._own()
        assert own.at is not None, "placed with positions"
        own.filled = max(own.filled, int(np.searchsorted(own.at, end)))
        if end > self.prompt_end:
            for segment, offset, n, _ in self.write_ranges(self.prompt_end, end):
                segment.filled = offset + n
        self.num_tokens = end

    def parts(self, end: int) -> list[Held]:
        """See `SequenceKV.parts`."""
        found = []
        for held in self.entries:
            at = held.segment.at
            if at is None:
                length = min(held.end, end) - held.position
            else:
                behind = max(end - self.prompt_end, 0)
                length = min(int(np.searchsorted(at, end)) + behind, held.length)
            if length > 0:
                found.append(held if length == held.length else held._replace(length=length))
        return found

    def truncate(self, length: int) -> None:
        """See `SequenceKV.truncate`; not within a prompt that is laid out."""
        assert length >= self.prompt_end, "within the prompt"
        super().truncate(length)

    def empty(self) -> SequenceKV:
        """See `SequenceKV.empty`."""
        sizes = {"piece_tokens": self.piece_tokens, "join_pieces": self.join_pieces}
        return PatchedKV(self.pool, self.chunks, **sizes)

    def fork(self) -> SequenceKV:
        """See `SequenceKV.fork`; only behind the prompt."""
        assert self.num_tokens >= self.prompt_end, "the prompt is not computed"
        self.pool.tick()
        other = PatchedKV(
            self.pool, self.chunks, piece_tokens=self.piece_tokens, join_pieces=self.join_pieces
        )
        if self._layout is not None:
            other.lay_out(self._layout)
        other.entries, other.num_tokens = self.parts(self.num_tokens), self.num_tokens
        other.prompt_end, other._prefix = self.prompt_end, self._prefix
        for held in other.pooled():
            self.pool.retain(held.segment)
            held.segment.frozen = max(held.segment.frozen, held.length)
        return other

    def release(self, *, keep: bool = True) -> None:
        """See `SequenceKV.release`. Only the prefix before the first chunk is kept: what was
        computed behind a reused chunk is not what a full prefill gives."""
        self.pool.tick()
        self._forget()
        super().release(keep=keep)

    def pooled(self) -> list[Held]:
        """See `SequenceKV.pooled`."""
        return [held for held in self.entries if not self._is_chunk(held)]

    def check(self) -> None:
        """Raise AssertionError unless every position is there exactly once."""
        if not self.prompt_end:
            super().check()
            return
        shown = np.zeros(self.num_tokens, np.int64)
        for held in self.parts(self.num_tokens):
            assert held.segment.filled >= held.length, "held, but not filled"
            places = held.positions
            shown[places if held.hides is None else places[~held.hides[: held.length]]] += 1
        assert (shown == 1).all(), f"positions {np.flatnonzero(shown != 1)} are not there once"

    def _is_private(self, held: Held) -> bool:
        is_own = held.segment.writer is self and held.segment.at is None
        return is_own and super()._is_private(held)

    def _is_chunk(self, held: Held) -> bool:
        chunks = self._layout.chunks if self._layout is not None else ()
        return any(held.segment is placed.segment for placed in chunks)

    def _own(self) -> Segment:
        return next(held.segment for held in self.entries if held.segment.at is not None)

    def _prefix_ranges(self, start: int, end: int) -> list[WriteRange]:
        return self._ranges(self.entries[: self._prefix], start, end)


def _held(placed: Placed, fresh: Positions) -> Held:
    segment, position = placed
    hides = np.zeros(segment.capacity, np.bool_)
    low, high = np.searchsorted(fresh, [position, placed.end])
    hides[fresh[low:high] - position] = True
    base = position - segment.start
    return Held(segment, base, segment.capacity, hides if low < high else None)


def _runs(own: Segment, positions: Positions) -> list[WriteRange]:
    """Where scattered positions go, one range for each run of neighbours."""
    assert own.at is not None, "placed with positions"
    offset = int(np.searchsorted(own.at, positions[0]))
    starts = np.flatnonzero(np.diff(positions, prepend=positions[0] - 2) != 1)
    sizes = np.diff(np.append(starts, len(positions)))
    return [
        WriteRange(own, offset + start, size, int(positions[start]))
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)
    ]
