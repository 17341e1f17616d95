"""What a sequence holds of the KV segments, from an exact prefix to its growing tail.

A segment holds keys and values of a run of tokens for all layers. Its keys are rotated from its
own start, so it can stand at any base of any sequence; a sequence is a list of `Held`. Segments
are counted by their holders; those that nobody holds stay for reuse until the budget needs their
bytes (`pool.py`), and are found by their tokens (`prefix.py`).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
import torch

from chunkwise.llm.kv.memory import Held, KVShape, OutOfKV, Positions, Segment, TokenIds
from chunkwise.llm.kv.pool import SegmentPool
from chunkwise.llm.kv.prefix import Cursor, Match, PrefixTree

__all__ = [
    "Held",
    "KVShape",
    "Match",
    "OutOfKV",
    "PrefixTree",
    "Segment",
    "SegmentPool",
    "SequenceKV",
    "WriteRange",
]


class WriteRange(NamedTuple):
    """Where a run of positions goes: `n` keys of a segment from `offset` on; the first is rotated
    by `rel`."""

    segment: Segment
    offset: int
    n: int
    rel: int


class SequenceKV:
    """An ordered list of entries that covers positions from 0 on without holes.

    First come segments shared with others, then its own. The life of a sequence: `match` once,
    then per step `reserve`, `write_ranges` and `parts`, the step itself, `mark_computed`; `join`
    now and then; `release` at the end.

    Attributes:
        pool: Where segments come from.
        entries: What it holds. The last may have room: `length` counts reserved rows too.
        num_tokens: Positions whose keys are computed and held.
        piece_tokens: Capacity of the pieces that a growing tail is made of.
        join_pieces: So many pieces of one capacity are joined into one.
    """

    __slots__ = ("entries", "join_pieces", "num_tokens", "piece_tokens", "pool")

    holds_chunks: ClassVar[bool] = False
    """Whether it may hold chunks that others hold at other places."""

    def __init__(self, pool: SegmentPool, *, piece_tokens: int = 64, join_pieces: int = 4) -> None:
        assert piece_tokens > 0, f"pieces of {piece_tokens} tokens"
        assert join_pieces > 1, f"joining {join_pieces} pieces"
        self.pool = pool
        self.entries: list[Held] = []
        self.num_tokens = 0
        self.piece_tokens, self.join_pieces = piece_tokens, join_pieces

    @property
    def num_reserved(self) -> int:
        """Positions there is room for, the computed ones included."""
        return self.entries[-1].end if self.entries else 0

    def match(self, token_ids: TokenIds) -> int:
        """Take the longest prefix that is computed; only while nothing is held.

        Args:
            token_ids: What may be taken; a prompt without its last token, as that one must be
                computed to have logits.

        Returns:
            Tokens taken.
        """
        assert not self.entries, "match comes first"
        self.pool.tick()
        self.entries, self.num_tokens, _ = self.pool.tree.match(token_ids)
        for held in self.entries:
            self.pool.retain(held.segment)
        return self.num_tokens

    def reserve(self, position_end: int, token_ids: TokenIds, *, hint: int = 0) -> None:
        """Make room up to a position, in at most one new segment, and note the tokens there.

        Without `hint` a new segment is a private piece of the growing tail. With it, the segment
        takes all that is left of a prompt in one piece, and its tokens go into the prefix tree
        at once, as a promise.

        Args:
            position_end: One past the last position of this step.
            token_ids: All tokens of the sequence, from position 0; at least `position_end`.
            hint: Where a new segment should end: the length of the prompt, or more to have room
                for the first tokens of the completion in the same segment. It may be cut to
                what fits, but not below the tokens given.

        Raises:
            OutOfKV: No room; nothing that anybody holds has changed.
        """
        assert len(token_ids) >= position_end, "tokens of these positions are not known"
        if position_end > self.num_reserved:
            self._grow(position_end, token_ids, hint)
        at = self.num_tokens
        for segment, offset, n, _ in self.write_ranges(at, position_end):
            segment.token_ids[offset : offset + n] = token_ids[at : at + n]
            at += n

    def write_ranges(self, start: int, end: int) -> list[WriteRange]:
        """Where reserved positions `start .. end` go, in order; none of them is computed yet."""
        return self._ranges(self.entries, start, end)

    def _ranges(self, entries: list[Held], start: int, end: int) -> list[WriteRange]:
        """See `write_ranges`; of some of the entries, which follow each other."""
        found = []
        for held in reversed(entries):
            if held.end <= start:
                break
            first, last = max(start, held.position), min(end, held.end)
            if first < last:
                assert held.segment.writer is self, "a row of another sequence"
                at = WriteRange(
                    held.segment, first - held.position, last - first, first - held.base
                )
                found.append(at)
        return found[::-1]

    def writes(self, positions: Positions) -> list[WriteRange]:
        """Where pending positions go, in their order: `(n,)` int32, rising, reserved."""
        return self.write_ranges(int(positions[0]), int(positions[-1]) + 1)

    def mark_computed(self, end: int) -> None:
        """Say that the rows up to position `end` now hold their numbers; after the step."""
        assert self.num_tokens <= end <= self.num_reserved, f"position {end} is not reserved"
        for segment, offset, n, _ in self.write_ranges(self.num_tokens, end):
            segment.filled = offset + n
        self.num_tokens = end

    def parts(self, end: int) -> list[Held]:
        """The entries that rows below position `end` may see, none longer than that."""
        found = self.entries.copy()
        while found and found[-1].position >= end:
            found.pop()
        if found and found[-1].end > end:
            found[-1] = found[-1]._replace(length=end - found[-1].position)
        return found

    def truncate(self, length: int) -> None:
        """Drop what stands from position `length` on.

        Rows that others may hold are only let go, and what follows goes into a new segment;
        others are written over.
        """
        assert length >= 0, f"length {length}"
        if length >= self.num_tokens:
            return
        self.pool.tick()
        while self.entries and self.entries[-1].position >= length:
            self._drop(self.entries.pop())
        self.num_tokens = length
        if not self.entries:
            return
        last = self.entries[-1]
        segment, rows = last.segment, length - last.position
        if segment.writer is self and rows >= segment.frozen:
            segment.filled = rows
        else:
            self._stop(segment)
            self.entries[-1] = last._replace(length=rows)

    def empty(self) -> SequenceKV:
        """Another sequence of the same kind that holds nothing."""
        return SequenceKV(self.pool, piece_tokens=self.piece_tokens, join_pieces=self.join_pieces)

    def fork(self) -> SequenceKV:
        """Another sequence that holds what is computed so far. The original goes on writing into
        its tail; the other starts a segment of its own."""
        self.pool.tick()
        other = self.empty()
        other.entries, other.num_tokens = self.parts(self.num_tokens), self.num_tokens
        for held in other.entries:
            self.pool.retain(held.segment)
            held.segment.frozen = max(held.segment.frozen, held.length)
        return other

    def release(self, *, keep: bool = True) -> None:
        """Let everything go; the object can be used again, empty.

        Args:
            keep: Put what was computed into the prefix tree, where it stays until its bytes are
                needed. False where the numbers are of no use: segments that this sequence wrote
                leave the tree too, unless others have built on them.
        """
        self.pool.tick()
        try:
            if keep:
                self._publish()
        finally:
            while self.entries:
                self._drop(self.entries.pop(), keep=keep)
            self.num_tokens = 0

    def join(self) -> int:
        """Copy `join_pieces` neighbouring pieces of one capacity into one, as often as there are.

        Only full pieces that nobody else holds or can find. Over a completion of n tokens this
        copies O(n log n) rows and leaves O(log n) pieces. Where there is no room for the copy,
        even after eviction, nothing is done.

        Returns:
            Bytes copied.
        """
        groups = self._joinable() if len(self.entries) >= self.join_pieces else []
        return sum(self._join(first, count) for first, count in reversed(groups))

    def pooled(self) -> list[Held]:
        """The entries whose segments are of the pool."""
        return self.entries

    def check(self) -> None:
        """Raise AssertionError unless the entries are without holes and agree with the tree."""
        assert 0 <= self.num_tokens <= self.num_reserved, "more computed than reserved"
        end, node, offset = 0, self.pool.tree.root, 0
        is_private = False
        for held in self.entries:
            segment, length = held.segment, held.length
            assert held.position == end, f"a hole at position {end}"
            assert 0 < length <= segment.capacity, f"{length} of {segment.capacity} keys held"
            assert segment.filled >= min(length, self.num_tokens - end), "not filled"
            assert held.end <= self.num_tokens or segment.writer is self, "cannot be written"
            if segment.writer is self:
                assert segment.filled <= max(self.num_tokens - end, 0), "filled, but not computed"
            assert segment.writer is self or length <= segment.frozen, "may change under a reader"
            if segment.node is not None:
                assert not is_private, "in the tree behind one that is not"
                assert (segment.node.parent, segment.node.offset) == (node, offset), "other path"
                node, offset = segment.node, length
            is_private = is_private or segment.node is None
            end = held.end

    def _grow(self, position_end: int, token_ids: TokenIds, hint: int) -> None:
        begin = self.num_reserved
        least = max(position_end, min(hint, len(token_ids))) - begin
        if hint > begin:  # a run of its own, rotated from 0
            base, wanted = begin, hint - begin
        else:
            base = self.entries[-1].base if self.entries else 0
            wanted = -(-least // self.piece_tokens) * self.piece_tokens
        segment = self._allocate(least, wanted, begin - base)
        segment.writer = self
        known = min(segment.capacity, len(token_ids) - begin)
        segment.token_ids[:known] = token_ids[begin : begin + known]
        cursor = self._cursor()
        if hint > begin and cursor is not None and known >= self.pool.tree.min_match:
            self.pool.tree.insert(cursor, segment, known)
        self.entries.append(Held(segment, base, segment.capacity))

    def _allocate(self, least: int, wanted: int, start: int) -> Segment:
        """A segment of `wanted` rows, or of what there is room for, but at least `least`."""
        if self.pool.free_tokens < least:
            self._trim_shared(least)
        return self.pool.allocate(max(least, min(wanted, self.pool.free_tokens)), start)

    def _trim_shared(self, least: int) -> None:
        """Give back rows that nobody needs of segments that only this sequence holds, if that is
        enough. So a sequence alone in the pool can fill it to the last token."""
        spare = [h for h in self.entries if h.segment.refs == 1 and h.length < h.segment.capacity]
        gain = sum(held.segment.capacity - held.length for held in spare)
        if self.pool.free_tokens + gain >= least:
            for held in spare:
                self.pool.trim(held.segment, held.length)

    def _cursor(self) -> Cursor | None:
        """Where the tree goes on behind all that is held; None if that is not in the tree."""
        if not self.entries:
            return Cursor(self.pool.tree.root, 0)
        segment, length = self.entries[-1].segment, self.entries[-1].length
        is_there = segment.node is not None and length <= min(segment.node.known, segment.filled)
        return Cursor(segment.node, length) if segment.node is not None and is_there else None

    def _drop(self, held: Held, *, keep: bool = True) -> None:
        segment = held.segment
        is_own = segment.writer is self and segment.refs == 1
        self._stop(segment)
        if not keep and is_own and segment.node is not None and not segment.node.num_children:
            self.pool.tree.remove(segment.node)
        self.pool.release(segment)

    def _stop(self, segment: Segment) -> None:
        """Write no more into a segment; what it promised and does not have is taken back."""
        if segment.writer is self:
            segment.writer = None
            if segment.node is not None:
                self.pool.tree.withdraw(segment.node)

    def _publish(self) -> None:
        """Put what is computed into the tree. Pieces that it has already stay out and are freed
        with their last holder; where others hold them, they go in beside the equal ones."""
        self._insert(self.parts(self.num_tokens))

    def _insert(self, computed: list[Held]) -> None:
        """Put entries into the tree, from the first on."""
        tree = self.pool.tree
        cursor = Cursor(tree.root, 0)
        for held in computed:
            segment, length = held.segment, held.length
            if segment.node is not None:
                tree.extend(segment.node, length)
            elif segment.refs == 1 and (end := tree.follow(cursor, segment.token_ids[:length])):
                cursor = end
                continue
            elif length < tree.min_match and held is computed[-1]:
                return  # too short to be taken by anybody
            else:
                tree.insert(cursor, segment, length)
            assert segment.node is not None, "just inserted"
            cursor = Cursor(segment.node, length)
            if segment.writer is self and segment.refs == 1 and 2 * length < segment.capacity:
                self.pool.trim(segment, length)

    def _joinable(self) -> list[tuple[int, int]]:
        """Groups of entries to join: index of the first, and how many."""
        groups: list[tuple[tuple[int, int], int, int]] = []  # (rows, base), first, count
        for index, held in enumerate(self.entries):
            if not self._is_private(held):
                groups.append(((0, index), index, 1))  # equal to no other
                continue
            groups.append(((held.length, held.base), index, 1))
            while len(last := groups[-self.join_pieces :]) == self.join_pieces:
                (rows, base), first, _ = last[0]
                if any(kind != (rows, base) for kind, _, _ in last):
                    break
                count = sum(n for _, _, n in last)
                groups[-self.join_pieces :] = [((rows * self.join_pieces, base), first, count)]
        return [(first, count) for _, first, count in groups if count > 1]

    def _is_private(self, held: Held) -> bool:
        """Whether an entry is a full segment that nobody else holds or can find."""
        segment = held.segment
        is_full = held.length == segment.capacity and held.end <= self.num_tokens
        return is_full and segment.refs == 1 and segment.node is None

    def _join(self, first: int, count: int) -> int:
        old = self.entries[first : first + count]
        rows = sum(held.length for held in old)
        if rows > self.pool.free_tokens:
            return 0
        new = self.pool.allocate(rows, old[0].segment.start)
        try:
            torch.cat([held.segment.k for held in old], dim=2, out=new.k)
            torch.cat([held.segment.v for held in old], dim=2, out=new.v)
            np.concatenate([held.segment.token_ids for held in old], out=new.token_ids)
        except BaseException:
            self.pool.release(new)
            raise
        new.filled, new.writer = rows, self
        self.entries[first : first + count] = [Held(new, old[0].base, rows)]
        for held in old:
            self._drop(held)
        return new.nbytes
