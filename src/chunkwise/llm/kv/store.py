"""Chunks' segments, by content: each computed once behind the anchor, held by any sequence.

A chunk is found by its content id and its tokens, in memory or on disk (`disk.py`), where it stays
when the process ends. What nobody holds may be evicted from memory. A chunk that would be computed
sooner than loaded is not loaded; one that a prompt will need is loaded while others are computed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from chunkwise.llm.costs import CostModel
from chunkwise.llm.eviction import EvictionPolicy, Usage
from chunkwise.llm.kv.disk import DiskTier
from chunkwise.llm.kv.memory import Segment, TokenIds

_TELL_S = 300.0
"""How often the file of a chunk that is used in memory is told so, at most."""

_REMEMBERED = 10_000
"""Chunks that were evicted, and those that are expected, of which is known that they were."""


@dataclass(slots=True)
class Entry:
    """A stored chunk.

    Attributes:
        content_id: What it is.
        segment: Its keys and values; `segment.refs` counts the sequences that hold it.
        used_at: When it was stored or taken last, on the store's clock.
        told_at: When its file was told so.
        uses: How often it was.
        rank: Of those nobody holds the lowest is evicted first.
    """

    content_id: str
    segment: Segment
    used_at: float
    uses: int = 0
    rank: float = -math.inf
    told_at: float = -math.inf


class _Loaded(NamedTuple):
    """What came from disk, if it was there, and how many seconds that took."""

    segment: Segment | None
    seconds: float


class _Loading(NamedTuple):
    """What is on its way, and the bytes that it will take."""

    result: Future[_Loaded]
    nbytes: int


class ChunkStore:
    """Segments of chunks in memory, and on disk if there is a place.

    Args:
        budget_bytes: Most bytes in memory, held or not; a chunk that has no room beside what is
            held is not kept.
        policy: Which chunks leave memory first.
        costs: What computing and loading take.
        disk: The disk tier, or None.
        ttl_s: Chunks that were not used for so many seconds are forgotten; 0: none is.
        load: `always`, or as `measured`: only what is loaded sooner than computed.
        clock: Seconds.

    Attributes:
        used_bytes: Bytes of all in memory, mapped ones included.
        held_bytes: Bytes of those that somebody holds.
    """

    def __init__(
        self,
        budget_bytes: int,
        policy: EvictionPolicy,
        costs: CostModel,
        disk: DiskTier | None = None,
        *,
        ttl_s: float = 0.0,
        load: str = "measured",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget_bytes, self.policy, self.costs, self.disk = budget_bytes, policy, costs, disk
        self.ttl_s, self.load, self.clock = ttl_s, load, clock
        self.used_bytes = self.held_bytes = 0
        self._tell_s = min(_TELL_S, ttl_s / 10) if ttl_s else _TELL_S
        self._entries: dict[str, Entry] = {}
        self._gone: dict[str, tuple[int, float]] = {}  # uses and rank of what was evicted
        self._now = 0.0  # see `Usage`
        self._floor = 0.0  # highest rank that was evicted
        self._expected: dict[str, set[str]] = {}  # what will be asked for, and by whom
        self._loads: dict[str, _Loading] = {}
        self._loader: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        """How many chunks are in memory."""
        return len(self._entries)

    def get(self, content_id: str, token_ids: TokenIds) -> Segment | None:
        """The segment of a chunk, or None; one with other tokens is none."""
        entry = self._entry(content_id)
        if entry is None:
            return self._loaded(content_id, token_ids)
        if entry.segment.token_ids.tobytes() != token_ids.tobytes():
            return None
        self._use(entry)
        return entry.segment

    def has(self, content_id: str, token_ids: TokenIds) -> bool:
        """Whether `get` would most likely find it, without reading a file; what is computed sooner
        than loaded counts as not there."""
        where = self.where(content_id, token_ids)
        return where == "memory" or (where == "disk" and self._is_worth_loading(token_ids))

    def where(self, content_id: str, token_ids: TokenIds) -> str:
        """In which tier a chunk is, without reading a file: `memory`, `disk` or `none`."""
        if (entry := self._entry(content_id)) is not None:
            is_it = entry.segment.token_ids.tobytes() == token_ids.tobytes()
            return "memory" if is_it else "none"
        return "disk" if self.disk is not None and self.disk.has(content_id) else "none"

    def expect(self, content_id: str, who: str) -> None:
        """Let a chunk that somebody will ask for stay until he says `unexpect`, as far as others
        can go."""
        self._expected.setdefault(content_id, set()).add(who)
        if len(self._expected) > _REMEMBERED:
            del self._expected[next(iter(self._expected))]

    def unexpect(self, content_id: str, who: str) -> None:
        """Undo `expect`; of somebody who did not, nothing."""
        expecting = self._expected.get(content_id, set())
        expecting.discard(who)
        if not expecting:
            self._expected.pop(content_id, None)

    def prefetch(self, content_id: str, token_ids: TokenIds) -> None:
        """Begin to load a chunk that is on disk and worth it; `get` waits for it."""
        self._collect()
        size = self._size(token_ids)
        is_known = content_id in self._loads or self._entry(content_id) is not None
        if is_known or not self._is_to_load(content_id, token_ids, size):
            return
        assert self.disk is not None, "it is there"
        if self._loader is None:
            self._loader = ThreadPoolExecutor(1, "chunkwise-loader")
        future = self._loader.submit(_load, self.disk, content_id, token_ids)
        self._loads[content_id] = _Loading(future, size)

    def put(self, content_id: str, segment: Segment) -> bool:
        """Keep a complete segment that nobody holds; whether it is in memory now.

        Args:
            content_id: What it is.
            segment: Its `refs` must be 0.
        """
        assert not segment.refs, "held by somebody"
        if self.disk is not None:
            if self.disk.has(content_id):  # it was computed instead of loaded
                self._refuse(segment.token_ids)
            self.disk.save(content_id, segment)
            segment = self.disk.as_stored(segment)  # the same wherever it is read
        return self._keep(content_id, segment)

    def has_room(self, nbytes: int) -> bool:
        """Whether a chunk of so many bytes could be kept in memory now."""
        return self.held_bytes + nbytes <= self.budget_bytes

    def drop(self, content_id: str) -> bool:
        """Forget a chunk; whether it was there. Those who hold it keep it until they end."""
        self._collect()
        is_there = content_id in self._entries
        if is_there:
            self._forget(content_id)
        return (self.disk is not None and self.disk.drop(content_id)) or is_there

    def retain(self, segment: Segment) -> None:
        """Count one more holder."""
        self.held_bytes += 0 if segment.refs else segment.nbytes
        segment.refs += 1

    def release(self, segment: Segment) -> None:
        """Count one holder less."""
        assert segment.refs > 0, "released more often than retained"
        segment.refs -= 1
        self.held_bytes -= 0 if segment.refs else segment.nbytes

    def _entry(self, content_id: str) -> Entry | None:
        """What is in memory of a chunk, unless it is too old."""
        entry = self._entries.get(content_id)
        if entry is None or not self.ttl_s or entry.used_at + self.ttl_s >= self.clock():
            return entry
        self._forget(content_id)
        return None

    def _use(self, entry: Entry) -> None:
        """Count a use, and rank the entry anew."""
        self._now += 1 / len(self._entries)
        entry.uses += 1
        entry.used_at = self.clock()
        saved, size = self.saved_ms(entry), entry.segment.nbytes
        usage = Usage(self._now, entry.uses, saved, size, entry.rank, self._floor)
        entry.rank = self.policy.rank(usage)
        if self.disk is not None and entry.used_at >= entry.told_at + self._tell_s:
            entry.told_at = entry.used_at
            self.disk.touch(entry.content_id)

    def saved_ms(self, entry: Entry) -> float:
        """Predicted time of getting a chunk back if it were not in memory."""
        computing = self.costs.compute_ms(entry.segment.capacity)
        if self.disk is not None and self.disk.has(entry.content_id):
            return min(self.costs.load_ms(entry.segment.nbytes), computing)
        return computing

    def _loaded(self, content_id: str, token_ids: TokenIds) -> Segment | None:
        """The segment of a chunk from disk, in memory from now on."""
        if content_id in self._loads:
            self._finish(content_id)
            entry = self._entries.get(content_id)
            is_it = entry is not None and entry.segment.token_ids.tobytes() == token_ids.tobytes()
            return entry.segment if entry is not None and is_it else None
        if not self._is_to_load(content_id, token_ids, self._size(token_ids)):
            if self.where(content_id, token_ids) == "disk":
                self._refuse(token_ids)
            return None
        assert self.disk is not None, "it is there"
        found = _load(self.disk, content_id, token_ids)
        self._learn(found)
        segment = found.segment
        return segment if segment is not None and self._keep(content_id, segment) else None

    def _is_to_load(self, content_id: str, token_ids: TokenIds, size: int) -> bool:
        """Whether a chunk is on disk, has room, and is loaded sooner than computed."""
        coming = sum(load.nbytes for load in self._loads.values())
        if self.disk is None or not self.has_room(coming + size):
            return False
        if not self.disk.has(content_id):
            return False
        return self._is_worth_loading(token_ids)

    def _refuse(self, token_ids: TokenIds) -> None:
        if not self._is_worth_loading(token_ids):
            self.costs.refused()

    def _is_worth_loading(self, token_ids: TokenIds) -> bool:
        if self.load == "always":
            return True
        return self.costs.is_worth_loading(len(token_ids), self._size(token_ids))

    def _collect(self) -> None:
        """Keep what was loaded meanwhile."""
        for content_id in [name for name, load in self._loads.items() if load.result.done()]:
            self._finish(content_id)

    def _finish(self, content_id: str) -> None:
        """Wait for a load, and keep what it gives."""
        found = self._loads.pop(content_id).result.result()
        self._learn(found)
        if found.segment is not None:
            self._keep(content_id, found.segment)

    def _learn(self, found: _Loaded) -> None:
        if found.segment is not None:
            self.costs.loaded(found.segment.nbytes, found.seconds)

    def _size(self, token_ids: TokenIds) -> int:
        return 0 if self.disk is None else len(token_ids) * self.disk.shape.bytes_per_token

    def _keep(self, content_id: str, segment: Segment) -> bool:
        old = self._entries.get(content_id)
        if old is not None:
            if old.segment.refs or old.segment.token_ids.tobytes() == segment.token_ids.tobytes():
                return False
            self._forget(content_id)  # the same id for other tokens
        if not self._make_room(segment.nbytes):
            return False
        entry = Entry(content_id, segment, self.clock(), *self._gone.pop(content_id, ()))
        self._entries[content_id] = entry
        self.used_bytes += segment.nbytes
        self._use(entry)
        return True

    def _make_room(self, nbytes: int) -> bool:
        if not self.has_room(nbytes):
            return False
        if self.used_bytes + nbytes <= self.budget_bytes:
            return True
        for entry in sorted(self._entries.values(), key=self._order):
            if self.used_bytes + nbytes <= self.budget_bytes:
                break
            if not entry.segment.refs:
                self._evict(entry)
        return True

    def _order(self, entry: Entry) -> tuple[bool, float]:
        return entry.content_id in self._expected, entry.rank

    def _evict(self, entry: Entry) -> None:
        """Forget what nobody holds, but not how often it was asked for."""
        self._floor = max(self._floor, entry.rank)
        self._forget(entry.content_id)
        self._gone[entry.content_id] = entry.uses, entry.rank
        if len(self._gone) > _REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def _forget(self, content_id: str) -> None:
        self.used_bytes -= self._entries.pop(content_id).segment.nbytes


def _load(disk: DiskTier, content_id: str, token_ids: TokenIds) -> _Loaded:
    began = time.perf_counter()
    segment = disk.load(content_id, token_ids)
    return _Loaded(segment, time.perf_counter() - began)
