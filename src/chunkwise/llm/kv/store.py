"""Chunks' segments, by content: each computed once behind the anchor, held by any sequence.

A chunk is found by its content id and its tokens, in memory or on disk (`disk.py`), where it stays
when the process ends. What nobody holds may be evicted from memory.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from chunkwise.llm.kv.disk import DiskTier
from chunkwise.llm.kv.memory import Segment, TokenIds


@dataclass(slots=True)
class Entry:
    """A stored chunk.

    Attributes:
        content_id: What it is.
        segment: Its keys and values; `segment.refs` counts the sequences that hold it.
        last_used: On the store's clock.
    """

    content_id: str
    segment: Segment
    last_used: int


class ChunkStore:
    """Segments of chunks in memory, and on disk if there is a place.

    Attributes:
        budget_bytes: Most bytes in memory, held or not; a chunk that has no room beside what is
            held is not kept.
        disk: The disk tier, or None.
        used_bytes: Bytes of all in memory, mapped ones included.
    """

    def __init__(self, budget_bytes: int, disk: DiskTier | None = None) -> None:
        self.budget_bytes, self.disk, self.used_bytes = budget_bytes, disk, 0
        self._entries: dict[str, Entry] = {}
        self._clock = itertools.count()

    def __len__(self) -> int:
        """How many chunks are in memory."""
        return len(self._entries)

    def get(self, content_id: str, token_ids: TokenIds) -> Segment | None:
        """The segment of a chunk, or None; one with other tokens is none."""
        entry = self._entries.get(content_id)
        if entry is None:
            return self._loaded(content_id, token_ids)
        if entry.segment.token_ids.tobytes() != token_ids.tobytes():
            return None
        entry.last_used = next(self._clock)
        return entry.segment

    def has(self, content_id: str, token_ids: TokenIds) -> bool:
        """Whether `get` would most likely find it, without reading a file."""
        if entry := self._entries.get(content_id):
            return entry.segment.token_ids.tobytes() == token_ids.tobytes()
        return self.disk is not None and self.disk.has(content_id)

    def put(self, content_id: str, segment: Segment) -> bool:
        """Keep a complete segment that nobody holds; whether it is in memory now.

        Args:
            content_id: What it is.
            segment: Its `refs` must be 0.
        """
        assert not segment.refs, "held by somebody"
        if self.disk is not None:
            self.disk.save(content_id, segment)
        return self._keep(content_id, segment)

    def has_room(self, nbytes: int) -> bool:
        """Whether a chunk of so many bytes could be kept in memory now."""
        held = sum(e.segment.nbytes for e in self._entries.values() if e.segment.refs)
        return held + nbytes <= self.budget_bytes

    def drop(self, content_id: str) -> bool:
        """Forget a chunk; whether it was there. Those who hold it keep it until they end."""
        is_there = content_id in self._entries
        if is_there:
            self._forget(content_id)
        return (self.disk is not None and self.disk.drop(content_id)) or is_there

    def _loaded(self, content_id: str, token_ids: TokenIds) -> Segment | None:
        """The segment of a chunk from disk, in memory from now on."""
        if self.disk is None:
            return None
        if not self.has_room(len(token_ids) * self.disk.shape.bytes_per_token):
            return None
        segment = self.disk.load(content_id, token_ids)
        return segment if segment is not None and self._keep(content_id, segment) else None

    def _keep(self, content_id: str, segment: Segment) -> bool:
        old = self._entries.get(content_id)
        if old is not None:
            if old.segment.refs or old.segment.token_ids.tobytes() == segment.token_ids.tobytes():
                return False
            self._forget(content_id)  # the same id for other tokens
        if not self._make_room(segment.nbytes):
            return False
        self._entries[content_id] = Entry(content_id, segment, next(self._clock))
        self.used_bytes += segment.nbytes
        return True

    def retain(self, segment: Segment) -> None:
        """Count one more holder."""
        segment.refs += 1

    def release(self, segment: Segment) -> None:
        """Count one holder less."""
        assert segment.refs > 0, "released more often than retained"
        segment.refs -= 1

    def _make_room(self, nbytes: int) -> bool:
        if not self.has_room(nbytes):
            return False
        for entry in sorted(self._entries.values(), key=lambda entry: entry.last_used):
            if self.used_bytes + nbytes <= self.budget_bytes:
                break
            if not entry.segment.refs:
                self._forget(entry.content_id)
        return True

    def _forget(self, content_id: str) -> None:
        self.used_bytes -= self._entries.pop(content_id).segment.nbytes
