"""Chunks' segments, by content: each computed once behind the anchor, held by any sequence.

A chunk is found by its content id and its tokens. What nobody holds may be evicted.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

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
    """Segments of chunks in memory.

    Attributes:
        budget_bytes: Most bytes of what nobody holds and what is held together; a chunk that has
            no room beside what is held is not kept.
        used_bytes: Bytes of all.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes, self.used_bytes = budget_bytes, 0
        self._entries: dict[str, Entry] = {}
        self._clock = itertools.count()

    def __len__(self) -> int:
        """How many chunks there are."""
        return len(self._entries)

    def get(self, content_id: str, token_ids: TokenIds) -> Segment | None:
        """The segment of a chunk, or None; one with other tokens is none."""
        entry = self._entries.get(content_id)
        if entry is None or entry.segment.token_ids.tobytes() != token_ids.tobytes():
            return None
        entry.last_used = next(self._clock)
        return entry.segment

    def put(self, content_id: str, segment: Segment) -> bool:
        """Keep a complete segment that nobody holds; False where there is no room, or it is there.

        Args:
            content_id: What it is.
            segment: Its `refs` must be 0.
        """
        assert not segment.refs, "held by somebody"
        if content_id in self._entries or not self._make_room(segment.nbytes):
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
        free = sorted(
            (entry for entry in self._entries.values() if not entry.segment.refs),
            key=lambda entry: entry.last_used,
        )
        gain = sum(entry.segment.nbytes for entry in free)
        if self.used_bytes + nbytes - gain > self.budget_bytes:
            return False
        for entry in free:
            if self.used_bytes + nbytes <= self.budget_bytes:
                break
            del self._entries[entry.content_id]
            self.used_bytes -= entry.segment.nbytes
        return True
