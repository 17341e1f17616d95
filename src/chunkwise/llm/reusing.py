"""Reuse in the engine: prompts are laid out over stored chunks, probed, repaired, and chunks are
taken in.

A prompt whose chunks are stored is computed in one or two passes. With a policy that asks for it,
the first computes the question over the chunks as they are, without what lies between them, and
notes where it looks; the last computes what the policy picks, what lies between the chunks, and the
question.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.llm.auditing import Audit
from chunkwise.llm.costs import CostModel
from chunkwise.llm.eviction import policies as eviction_policies
from chunkwise.llm.inputs import AnyPrompt, check_counts
from chunkwise.llm.kv.disk import DiskTier
from chunkwise.llm.kv.memory import KVShape, Positions, Segment, Statistics, TokenIds
from chunkwise.llm.kv.patched import Layout, PatchedKV, Placed
from chunkwise.llm.kv.store import ChunkStore
from chunkwise.llm.reuse import Evidence, Passages, RecomputePolicy, Run, policies
from chunkwise.llm.sequence import NO_HEAVY_ROWS, Request, Sequence, TokenSegment
from chunkwise.registry import Spec

_SHARE = 0.15
_WANTED = 1000
_QUESTION_TOKENS = 64  # whose attention is noted, at most
_LABEL_TOKENS = 64  # of a passage's label, at most

Measure = Callable[[TokenIds, tuple[Placed, ...], Evidence], NDArray[np.float32]]
"""Deviations of a prompt's chunks, see `probing.deviations`."""


@dataclass(slots=True)
class Reused:
    """How a sequence reuses chunks; kept in its state.

    Attributes:
        chunks: The reused chunks with their places.
        prefix: Positions before them that are computed as ever; a label behind a cached prefix is
            none of them, but like what lies between chunks.
        behind: First position behind the last chunk of the prompt, stored or not.
        question: First position whose attention counts: behind the last chunk, and among the last
            tokens of the prompt.
        is_probing: Whether the question is computed over the chunks as they are.
        attention: Where it looked, so far: `(num_tokens,)`.
        picked: Positions computed afresh, in the last pass.
        saved_ms: Predicted time of computing the rest of the chunks.
    """

    chunks: tuple[Placed, ...]
    prefix: int
    behind: int
    question: int
    is_probing: bool
    attention: NDArray[np.float32]
    picked: Positions = field(default_factory=lambda: np.zeros(0, np.int32))
    saved_ms: float = 0.0


@dataclass(slots=True)
class Noted:
    """How the tokens of a chunk attend that is computed alone; kept in its sequence's state. Rows
    that are computed again are noted again.

    Attributes:
        before: Tokens before the chunk.
        external: Weight of each token on these, a mean over heads and layers: `(n,)`.
        inside: Its weight on earlier tokens of the chunk, likewise.
    """

    before: int
    external: NDArray[np.float32]
    inside: NDArray[np.float32]

    def statistics(self) -> Statistics:
        """Of the whole chunk."""
        n = len(self.external)
        inter = float(self.external.sum()) / (n * self.before) if self.before else 0.0
        return Statistics(self.external, inter, float(self.inside.sum()) / n**2)


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
        disk_dtype: `same` as the engine's, or `int8`: half the bytes of bfloat16, some loss.
        load: Chunks on disk are loaded `always`, or as `measured`: where that is faster than
            computing them; then whether a chunk is reused depends on the machine.
        eviction: Which of them leave memory first: an eviction policy by name.
        ttl_days: Those that were not used for so long are forgotten; 0: none is.
        audit_ratio: Share of the answers that are given again in full, to compare.
        audit_least: Share of these that must be the same, or chunks are not reused any more.
    """

    policy: Spec = "combined"
    anchor: AnyPrompt = ()
    memory_mb: int = 1024
    folder: str | Path = ""
    disk_mb: int = 8192
    disk_dtype: str = "same"
    load: str = "measured"
    eviction: Spec = "saved_cost"
    ttl_days: float = 0.0
    audit_ratio: float = 0.0
    audit_least: float = 0.9

    def __post_init__(self) -> None:
        check_counts(memory_mb=(self.memory_mb, 1), disk_mb=(self.disk_mb, 0))
        if self.ttl_days < 0:
            raise ConfigError(f"`ttl_days` must be at least 0, got {self.ttl_days!r}.")
        for name, share in (("audit_ratio", self.audit_ratio), ("audit_least", self.audit_least)):
            if not 0 <= share <= 1:
                raise ConfigError(f"`{name}` must be in [0, 1], got {share!r}.")
        if self.disk_dtype not in ("same", "int8"):
            raise ConfigError(f"`disk_dtype` must be same or int8, got {self.disk_dtype!r}.")
        if self.load not in ("measured", "always"):
            raise ConfigError(f"`load` must be measured or always, got {self.load!r}.")


_DAY_S = 86_400.0


def open_reuse(
    settings: ReuseSettings,
    anchor: tuple[int, ...],
    model: str,
    shape: KVShape,
    costs: CostModel,
    deviations: Measure,
) -> Reuse:
    """What an engine needs, as it is set.

    Args:
        settings: The settings.
        anchor: Tokens of the anchor.
        model: The model's fingerprint.
        shape: What a token's keys and values look like.
        costs: The engine's.
        deviations: See `Reuse`.

    Raises:
        ConfigError: There is no such policy, or the folder cannot be used.
    """
    disk, ttl_s = None, settings.ttl_days * _DAY_S
    policy = policies.build(settings.policy)
    if settings.folder and settings.disk_mb:
        disk = DiskTier(
            Path(settings.folder),
            f"{model}:{anchor}",
            shape,
            settings.disk_mb * 2**20,
            ttl_s=ttl_s,
            is_int8=settings.disk_dtype == "int8",
            with_statistics=policy.evidence.statistics,
        )
    eviction = eviction_policies.build(settings.eviction)
    size = settings.memory_mb * 2**20
    store = ChunkStore(size, eviction, costs, disk, ttl_s=ttl_s, load=settings.load)
    audit = Audit(settings.audit_ratio, settings.audit_least)
    return Reuse(store, policy, anchor, deviations, audit)


class Reuse:
    """What an engine needs to reuse chunks.

    Args:
        store: The chunks.
        policy: Which tokens are computed afresh.
        anchor: Tokens that chunks are computed behind; none: behind nothing.
        deviations: Measures what the policy may ask for, of a prompt and its chunks.
        audit: Which answers are given again in full.

    Attributes:
        wanted: Chunks that prompts have asked for and that were not there, for whoever has time.
    """

    def __init__(
        self,
        store: ChunkStore,
        policy: RecomputePolicy,
        anchor: tuple[int, ...],
        deviations: Measure,
        audit: Audit,
    ) -> None:
        self.store, self.policy, self.anchor = store, policy, anchor
        self.deviations, self.audit = deviations, audit
        self.wanted: deque[TokenSegment] = deque(maxlen=_WANTED)
        self._chunk_tokens = self._picked_tokens = 0

    @property
    def share_computed(self) -> float:
        """Which share of reused chunks' tokens was computed afresh so far; before any was, a
        guess."""
        return self._picked_tokens / self._chunk_tokens if self._chunk_tokens else _SHARE

    def missing(self, chunks: Iterable[TokenSegment], token_bytes: int) -> list[TokenSegment]:
        """Chunks that are not stored, or would be computed sooner than loaded; each once, as many
        as there is room for together. What is no chunk is left out.

        Args:
            chunks: Pieces of prompts.
            token_bytes: What one token takes.
        """
        found: dict[str, TokenSegment] = {}
        total = 0
        for chunk in chunks:
            if chunk.content_id is None or chunk.content_id in found:
                continue
            ids = np.array(chunk.token_ids, dtype=np.int32)
            size = len(ids) * token_bytes
            if not self.store.has(chunk.content_id, ids) and self.store.has_room(total + size):
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
            request.wants_statistics = self.policy.evidence.statistics
            found.append(request)
        return found

    def keep(self, sequence: Sequence) -> None:
        """Store the chunk that a sequence was computed for."""
        request, end = sequence.request, sequence.num_prompt_tokens
        assert request.admits is not None, "it is a prompt"
        segment = _cut(sequence, end - len(request.segments[-1].token_ids), end)
        noted: Noted | None = sequence.state.get("noted")
        segment.statistics = noted.statistics() if noted is not None else None
        self.store.put(request.admits, segment)

    def begin(self, sequence: Sequence, exact: int) -> Positions | None:
        """Lay out a sequence that holds nothing; positions to compute, or None where no chunk
        can be reused, or reusing them would save no rows.

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
            is_again = before is not None and _is_as_before(before, state)
            if not is_again and _saves_nothing(sequence, state):
                return None
            state.prefix = _prefix_end(state, sequence.kv.match(sequence.tokens[: state.prefix]))
            if before is not None and is_again:
                state.is_probing, state.picked = False, before.picked  # as before a preemption
                state.saved_ms = before.saved_ms
            elif not state.is_probing:
                state.picked = self._picked(sequence, state)
            first = state.behind if state.is_probing else 0
            sequence.heavy_from = state.question if state.is_probing else NO_HEAVY_ROWS
            pending = self._lay_out(sequence, state, first)
            sequence.state["reuse"] = state
            return pending
        except BaseException:
            sequence.kv.release()
            sequence.state.pop("reuse", None)
            sequence.num_reused_tokens = 0
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
        picked = self.policy.pick(
            Passages(
                _runs(state),
                state.attention if evidence.attention else None,
                deviation,
                _statistics(state.chunks) if evidence.statistics else None,
                len(self.anchor),
                _num_shared(np.array(self.anchor, np.int32), sequence.tokens),
            )
        )
        self._book(state, picked)
        return picked

    def _book(self, state: Reused, picked: Positions) -> None:
        """Count what was picked, and predict what that saves."""
        self._picked_tokens += len(picked)
        for segment, position in state.chunks:
            low, high = np.searchsorted(picked, [position, position + segment.capacity])
            self._chunk_tokens += segment.capacity
            rest = segment.capacity - int(high - low)
            state.saved_ms += self.store.costs.compute_ms(rest, position)

    def _stored(self, sequence: Sequence, exact: int) -> tuple[Placed, ...]:
        """The stored chunks of a prompt, held; one that comes again counts once."""
        found: dict[str, Placed] = {}
        at = 0
        last = sequence.num_prompt_tokens - 1  # computed always, for its logits
        try:
            for piece in sequence.request.segments:
                end = at + len(piece.token_ids)
                name = piece.content_id
                if name is not None and name not in found and at >= exact and end <= last:
                    segment = self.store.get(name, sequence.tokens[at:end])
                    if segment is None:
                        self.wanted.append(piece)
                    else:
                        self.store.retain(segment)
                        found[name] = Placed(segment, at)
                at = end
        except BaseException:  # an interrupt while one is waited for
            for placed in found.values():
                self.store.release(placed.segment)
            raise
        self.forget(sequence.request)
        return tuple(found.values())

    def expect(self, requests: Iterable[Request]) -> None:
        """Prompts will ask for their chunks: those on disk begin to load, and until `forget` none
        of them goes for another one."""
        asked: dict[str, TokenSegment] = {}
        for request in requests:
            for piece in request.segments:
                if piece.content_id is not None:
                    self.store.expect(piece.content_id, request.id)
                    asked[piece.content_id] = piece
        for name, piece in asked.items():
            self.store.prefetch(name, np.array(piece.token_ids, dtype=np.int32))

    def forget(self, request: Request) -> None:
        """A prompt has what it wanted of its chunks, or has ended."""
        for piece in request.segments:
            if piece.content_id is not None:
                self.store.unexpect(piece.content_id, request.id)

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


def is_passing(sequence: Sequence) -> bool:
    """Whether a sequence is computed for something else than a token."""
    return sequence.request.admits is not None or is_probing(sequence)


def is_probing(sequence: Sequence) -> bool:
    """Whether a sequence is computed to see where its question looks."""
    state: Reused | None = sequence.state.get("reuse")
    return state is not None and state.is_probing


def is_only_asked(sequence: Sequence) -> bool:
    """Whether nothing that a sequence has to compute is kept: its question over the chunks as they
    are, not what stands before them."""
    return is_probing(sequence) and bool(sequence.pending[0] >= sequence.state["reuse"].behind)


def _runs(state: Reused) -> tuple[Run, ...]:
    return tuple(Run(chunk.position, chunk.end) for chunk in state.chunks)


def _is_as_before(before: Reused, state: Reused) -> bool:
    """Whether what was picked before a preemption can be picked again."""
    return not before.is_probing and _runs(before) == _runs(state)


def _prefix_end(state: Reused, cached: int) -> int:
    """Where what is computed as ever ends; a few tokens behind a cached prefix need not be there
    to see where a question looks."""
    is_label = state.is_probing and 0 < state.prefix - cached <= _LABEL_TOKENS and cached
    return cached if is_label else state.prefix


def _saves_nothing(sequence: Sequence, state: Reused) -> bool:
    """Whether what is computed twice is as long as the chunks that are not."""
    reused = sum(chunk.segment.capacity for chunk in state.chunks)
    return state.is_probing and sequence.num_prompt_tokens - state.behind >= reused


def _num_shared(anchor: TokenIds, token_ids: TokenIds) -> int:
    """How many tokens of the anchor a prompt begins with."""
    size = min(len(anchor), len(token_ids))
    others = np.flatnonzero(anchor[:size] != token_ids[:size])
    return int(others[0]) if len(others) else size


def _statistics(chunks: tuple[Placed, ...]) -> tuple[Statistics, ...]:
    found = tuple(c.segment.statistics for c in chunks if c.segment.statistics is not None)
    assert len(found) == len(chunks), "a chunk was kept without statistics"
    return found


def _cut(sequence: Sequence, first: int, end: int) -> Segment:
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
