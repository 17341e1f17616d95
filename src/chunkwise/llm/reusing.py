"""Reuse in the engine: prompts are laid out over stored chunks, probed, repaired, and chunks are
taken in.

A prompt whose chunks are stored is computed in one or two passes. With a policy that asks for it,
the first computes the question over the chunks as they are, without what lies between them, and
notes where it looks; the last computes what the policy picks, what lies between the chunks, and the
question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chunkwise.llm.inputs import AnyPrompt, check_counts
from chunkwise.llm.kv.disk import DiskTier
from chunkwise.llm.kv.memory import KVShape, Positions, Segment, TokenIds
from chunkwise.llm.kv.patched import Layout, PatchedKV, Placed
from chunkwise.llm.kv.store import ChunkStore
from chunkwise.llm.reuse import Evidence, Passages, RecomputePolicy, Run, policies
from chunkwise.llm.sequence import NO_HEAVY_ROWS, Request, Sequence, TokenSegment
from chunkwise.registry import Spec

_QUESTION_TOKENS = 64  # whose attention is noted, at most

Measure = Callable[[TokenIds, tuple[Placed, ...], Evidence], NDArray[np.float32]]
"""Deviations of a prompt's chunks, see `probing.deviations`."""


@dataclass(slots=True)
class Reused:
    """How a sequence reuses chunks; kept in its state.

    Attributes:
        chunks: The reused chunks with their places.
        prefix: Positions before them that are computed as ever.
        behind: First position behind the last chunk of the prompt, stored or not.
        question: First position whose attention counts: behind the last chunk, and among the last
            tokens of the prompt.
        is_probing: Whether the question is computed over the chunks as they are.
        attention: Where it looked, so far: `(num_tokens,)`.
        picked: Positions computed afresh, in the last pass.
    """

    chunks: tuple[Placed, ...]
    prefix: int
    behind: int
    question: int
    is_probing: bool
    attention: NDArray[np.float32]
    picked: Positions = field(default_factory=lambda: np.zeros(0, np.int32))


@dataclass(frozen=True, slots=True)
class ReuseSettings:
    """How chunks are kept and read.

    Attributes:
        policy: Which of their tokens are computed afresh: a recompute policy by name.
        anchor: What chunks are computed behind: tokens, or a prompt like those to come, of which
            it is what stands before the first chunk.
        memory_mb: Memory for chunks in MiB.
        folder: Where they are kept when the process ends; empty: nowhere.
        disk_mb: Room for them there in MiB; 0: they are not kept.
    """

    policy: Spec = "combined"
    anchor: AnyPrompt = ()
    memory_mb: int = 1024
    folder: str | Path = ""
    disk_mb: int = 8192

    def __post_init__(self) -> None:
        check_counts(memory_mb=(self.memory_mb, 1), disk_mb=(self.disk_mb, 0))


def open_reuse(
    settings: ReuseSettings,
    anchor: tuple[int, ...],
    model: str,
    shape: KVShape,
    deviations: Measure,
) -> Reuse:
    """What an engine needs, as it is set.

    Args:
        settings: The settings.
        anchor: Tokens of the anchor.
        model: The model's fingerprint.
        shape: What a token's keys and values look like.
        deviations: See `Reuse`.

    Raises:
        ConfigError: There is no such policy, or the folder cannot be used.
    """
    disk = None
    if settings.folder and settings.disk_mb:
        made_for = f"{model}:{anchor}"
        disk = DiskTier(Path(settings.folder), made_for, shape, settings.disk_mb * 2**20)
    store = ChunkStore(settings.memory_mb * 2**20, disk)
    return Reuse(store, policies.build(settings.policy), anchor, deviations)


class Reuse:
    """What an engine needs to reuse chunks.

    Args:
        store: The chunks.
        policy: Which tokens are computed afresh.
        anchor: Tokens that chunks are computed behind; none: behind nothing.
        deviations: Measures what the policy may ask for, of a prompt and its chunks.
    """

    def __init__(
        self,
        store: ChunkStore,
        policy: RecomputePolicy,
        anchor: tuple[int, ...],
        deviations: Measure,
    ) -> None:
        self.store, self.policy, self.anchor = store, policy, anchor
        self.deviations = deviations

    def missing(self, chunks: Iterable[TokenSegment], token_bytes: int) -> list[TokenSegment]:
        """Chunks that are not stored, each once, as many as there is room for together; what is
        no chunk is left out.

        Args:
            chunks: Pieces of prompts.
            token_bytes: What one token takes.
        """
        found: dict[str, TokenSegment] = {}
        total = 0
        for chunk in chunks:
            if chunk.content_id is not None and chunk.content_id not in found:
                ids = np.array(chunk.token_ids, dtype=np.int32)
                size = len(ids) * token_bytes
                if self.store.has(chunk.content_id, ids) or not self.store.has_room(total + size):
                    continue
                found[chunk.content_id] = chunk
                total += size
        return list(found.values())

    def requests(
        self,
        chunks: Items[TokenSegment],
        make: Callable[[tuple[TokenSegment, ...]], Request],
    ) -> list[Request]:
        """What computes chunks, each behind the anchor; before them a prompt that is the anchor
        alone, which stays in the cache for them."""
        anchor = (TokenSegment(self.anchor),) if self.anchor else ()
        found = [make(anchor)] if anchor and chunks else []
        for chunk in chunks:
            request = make((*anchor, chunk))
            request.admits = chunk.content_id
            found.append(request)
        return found

    def begin(self, sequence: Sequence, exact: int) -> Positions | None:
        """Lay out a sequence that holds nothing; positions to compute, or None where no chunk
        can be reused.

        Args:
            sequence: Its `kv` is a `PatchedKV`.
            exact: Tokens that the exact prefix in the cache has; chunks in it need no reuse.
        """
        before: Reused | None = sequence.state.pop("reuse", None)
        sequence.num_reused_tokens, sequence.heavy_from = 0, NO_HEAVY_ROWS
        chunks = self._stored(sequence, exact)
        try:
            if not chunks:
                return None
            state = self._state(sequence, chunks)
            sequence.kv.match(sequence.tokens[: state.prefix])
            if before is not None and not before.is_probing and _runs(before) == _runs(state):
                state.is_probing, state.picked = False, before.picked  # as before a preemption
            elif not state.is_probing:
                state.picked = self._picked(sequence, state)
            first = state.behind if state.is_probing else 0
            sequence.heavy_from = state.question if state.is_probing else NO_HEAVY_ROWS
            pending = self._lay_out(sequence, state, first)
            sequence.state["reuse"] = state
            return pending
        except BaseException:
            sequence.kv.release()
            raise
        finally:
            for chunk in chunks:
                self.store.release(chunk.segment)

    def advance(self, sequence: Sequence) -> None:
        """After the pass over the chunks as they are: the last one is pending."""
        state: Reused | None = sequence.state.get("reuse")
        if state is None or not state.is_probing:
            return
        state.picked = self._picked(sequence, state)
        pending = self._lay_out(sequence, state)
        state.is_probing, sequence.heavy_from = False, NO_HEAVY_ROWS
        sequence.pending = pending

    def _state(self, sequence: Sequence, chunks: tuple[Placed, ...]) -> Reused:
        """How a sequence begins."""
        ends = np.cumsum([len(piece.token_ids) for piece in sequence.request.segments])
        is_chunk = [piece.content_id is not None for piece in sequence.request.segments]
        last = int(ends[np.flatnonzero(is_chunk)[-1]])
        return Reused(
            chunks,
            chunks[0].position,
            last,
            max(last, sequence.num_prompt_tokens - _QUESTION_TOKENS),
            self.policy.evidence.attention,
            np.zeros(sequence.num_tokens, np.float32),
        )

    def _picked(self, sequence: Sequence, state: Reused) -> Positions:
        evidence, deviation = self.policy.evidence, None
        if evidence.deviation:
            deviation = self.deviations(sequence.tokens, state.chunks, evidence)
        attention = state.attention if evidence.attention else None
        return self.policy.pick(Passages(_runs(state), attention, deviation))

    def _stored(self, sequence: Sequence, exact: int) -> tuple[Placed, ...]:
        """The stored chunks of a prompt, held; one that comes again counts once."""
        found: dict[str, Placed] = {}
        at = 0
        last = sequence.num_prompt_tokens - 1  # computed always, for its logits
        for piece in sequence.request.segments:
            end = at + len(piece.token_ids)
            name = piece.content_id
            if name is not None and name not in found and at >= exact and end <= last:
                segment = self.store.get(name, sequence.tokens[at:end])
                if segment is not None:
                    self.store.retain(segment)
                    found[name] = Placed(segment, at)
            at = end
        return tuple(found.values())

    def _lay_out(self, sequence: Sequence, state: Reused, first: int = 0) -> Positions:
        """Place what is computed from position `first` on, and tell what that is."""
        is_fresh = np.ones(sequence.num_tokens, np.bool_)
        is_fresh[: max(state.prefix, first)] = False
        for chunk in state.chunks:
            is_fresh[chunk.position : chunk.end] = False
        is_fresh[state.picked] = True
        fresh = np.flatnonzero(is_fresh).astype(np.int32)
        sequence.num_reused_tokens = sequence.num_tokens - state.prefix - len(fresh)
        assert isinstance(sequence.kv, PatchedKV), "made for reuse"
        sequence.kv.lay_out(Layout(state.prefix, state.chunks, fresh))
        before = np.arange(sequence.kv.num_tokens, state.prefix, dtype=np.int32)
        return np.concatenate([before, fresh])


def _runs(state: Reused) -> tuple[Run, ...]:
    return tuple(Run(chunk.position, chunk.end) for chunk in state.chunks)


def cut(sequence: Sequence, first: int, end: int) -> Segment:
    """A segment of its own with the keys of positions `first .. end`, which one segment that the
    sequence holds has; nobody holds it."""
    for held in sequence.kv.entries:
        if held.position <= first and end <= held.end:
            rows = slice(first - held.position, end - held.position)
            k, v = held.segment.copied(rows)
            ids = held.segment.token_ids[rows].copy()
            count = end - first
            return Segment(k, v, ids, held.segment.start + rows.start, count, count, count, 0)
    raise AssertionError(f"positions {first} .. {end} are in no one segment")
