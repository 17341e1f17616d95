"""The memory of KV segments: a budget in bytes, counted references, eviction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch

from chunkwise.errors import ConfigError
from chunkwise.llm.kv.memory import KVShape, OutOfKV, Segment
from chunkwise.llm.kv.prefix import PrefixTree

if TYPE_CHECKING:
    from chunkwise.llm.kv.segments import SequenceKV


class SegmentPool:
    """All segments of one engine.

    A segment that nobody holds stays while it is in the prefix tree and the budget has room for
    it; the least recently used go first, leaves before what they were computed behind.

    Attributes:
        shape: What one token costs.
        budget_bytes: Most bytes of keys and values. While rows are copied within a step of
            `trim`, at most half of what is kept comes on top.
        tree: Where prefixes are found.
        used_bytes: Bytes of all segments, held or not.
        cached_bytes: Those of segments that nobody holds; all of them can be evicted.
        num_evicted: Segments evicted so far.

    Args:
        shape: What one token costs.
        budget_bytes: At least one token.
        min_match: Fewest rows of a segment that are worth sharing; see `PrefixTree`.

    Raises:
        ConfigError: A budget for less than one token, or `min_match` below 1.
    """

    def __init__(self, shape: KVShape, budget_bytes: int, *, min_match: int = 16) -> None:
        if budget_bytes < shape.bytes_per_token:
            raise ConfigError(
                f"The KV budget must hold at least one token ({shape.bytes_per_token} bytes for "
                f"this model), got {budget_bytes!r} bytes."
            )
        if min_match < 1:
            raise ConfigError(f"`min_match` must be at least 1, got {min_match!r}.")
        self.shape, self.budget_bytes = shape, budget_bytes
        self.tree = PrefixTree(min_match)
        self.used_bytes = self.cached_bytes = self.num_evicted = 0
        self._segments: set[Segment] = set()
        self._clock = 0

    @property
    def max_tokens(self) -> int:
        """Tokens that fit when nothing else is held."""
        return self.budget_bytes // self.shape.bytes_per_token

    @property
    def free_bytes(self) -> int:
        """Bytes that `allocate` can give: never used, or held by nobody."""
        return self.budget_bytes - self.used_bytes + self.cached_bytes

    @property
    def free_tokens(self) -> int:
        """Tokens that `allocate` can give in one segment."""
        return self.free_bytes // self.shape.bytes_per_token

    def allocate(self, capacity: int, start: int = 0) -> Segment:
        """A new segment with one reference, its rows not initialised. Evicts as needed.

        Raises:
            OutOfKV: Not enough even if all that nobody holds were evicted; nothing has changed.
        """
        needed = capacity * self.shape.bytes_per_token
        if needed > self.free_bytes:
            raise OutOfKV(needed, self.free_bytes)
        while self.used_bytes + needed > self.budget_bytes:
            self._evict()
        layers, heads, size, dtype, device = self.shape
        k, v = (
            torch.empty(layers, heads, capacity, size, dtype=dtype, device=device) for _ in "kv"
        )
        segment = Segment(k, v, np.zeros(capacity, np.int32), start, capacity)
        segment.last_used = self.tick()
        self._segments.add(segment)
        self.used_bytes += needed
        return segment

    def retain(self, segment: Segment) -> None:
        """Count one more holder."""
        if not segment.refs:
            self.cached_bytes -= segment.nbytes
        segment.refs += 1
        segment.last_used = self._clock

    def release(self, segment: Segment) -> None:
        """Count one holder less; a segment without holders stays only if it is in the tree."""
        assert segment.refs > 0, "released more often than retained"
        segment.refs -= 1
        segment.last_used = self._clock
        if segment.refs:
            return
        if segment.node is None:
            self._free(segment)
        else:
            self.cached_bytes += segment.nbytes
            self.tree.offer(segment.node)

    def trim(self, segment: Segment, rows: int) -> None:
        """Give back the room behind the first `rows` rows, by copying these.

        The segment must have exactly one holder, who needs no more rows. What was computed
        behind later rows leaves the tree and is freed.
        """
        assert segment.refs == 1, f"{segment.refs} holders"
        # The copies come first: if there is no memory for them, nothing has changed.
        k, v = segment.copied(slice(rows))
        if segment.node is not None:
            for below in self.tree.prune(segment.node, rows):
                self.cached_bytes -= below.nbytes
                self._free(below)
        self.used_bytes -= (segment.capacity - rows) * self.shape.bytes_per_token
        segment.k, segment.v = k, v
        segment.token_ids = segment.token_ids[:rows].copy()
        segment.capacity = rows
        segment.filled, segment.frozen = min(segment.filled, rows), min(segment.frozen, rows)

    def clear(self) -> None:
        """Evict all that nobody holds: no later prompt finds a prefix of earlier ones."""
        while self.cached_bytes:
            self._evict()

    def tick(self) -> int:
        """Advance the logical clock: what is used from now on is used later than all before."""
        self._clock += 1
        return self._clock

    def check(self, sequences: Iterable[SequenceKV] | None = None) -> None:
        """Raise AssertionError unless all books agree.

        Args:
            sequences: All that hold anything, if the holders are to be counted too.
        """
        used = sum(segment.nbytes for segment in self._segments)
        unheld = [segment for segment in self._segments if not segment.refs]
        assert used == self.used_bytes, f"{used} bytes used, {self.used_bytes} counted"
        assert used <= self.budget_bytes, f"{used} bytes used of {self.budget_bytes}"
        assert sum(s.nbytes for s in unheld) == self.cached_bytes, "cached bytes miscounted"
        assert all(s.node is not None for s in unheld), "a segment that nobody can find"
        assert {n.segment for n in self.tree.walk()} <= self._segments, "freed, but in the tree"
        for segment in self._segments:
            assert 0 <= segment.filled <= segment.capacity, "filled beyond capacity"
            assert segment.capacity == segment.k.shape[2] == len(segment.token_ids), "capacity"
        self.tree.check()
        if sequences is not None:
            self._check_holders(list(sequences))

    def _check_holders(self, sequences: list[SequenceKV]) -> None:
        holders = Counter(held.segment for one in sequences for held in one.pooled())
        for segment in self._segments:
            count = holders.pop(segment, 0)
            assert segment.refs == count, f"{segment.refs} references, {count} holders"
        assert not holders, "a freed segment is held"
        for one in sequences:
            one.check()

    def _evict(self) -> None:
        segment = self.tree.evict()
        self.cached_bytes -= segment.nbytes
        self.num_evicted += 1
        self._free(segment)

    def _free(self, segment: Segment) -> None:
        self._segments.remove(segment)
        self.used_bytes -= segment.nbytes
