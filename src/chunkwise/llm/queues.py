"""Who waits, who runs, and who gives up memory for whom."""

from __future__ import annotations

import bisect
import itertools
import logging
import math
from collections.abc import Sequence as Items
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from chunkwise.llm.kv.patched import PatchedKV
from chunkwise.llm.kv.segments import OutOfKV, SegmentPool
from chunkwise.llm.ordering.base import QueueOrder
from chunkwise.llm.reusing import Reuse
from chunkwise.llm.scheduling.base import SchedulingPolicy, Slice, StepBudget
from chunkwise.llm.sequence import Sequence

logger = logging.getLogger(__name__)

_WORTH_WAITING = 32
"""Tokens of a prompt that another sequence must be computing for it to be waited for."""


class Queues:
    """Waiting sequences hold no KV; running ones do.

    Attributes:
        order: Who of the waiting is admitted next.
        waiting: Most urgent first; equals by arrival.
        running: In order of admission.
        preemptions: How often a sequence lost its memory to another one.
        reuse: What chunks are reused with, or None.
    """

    def __init__(
        self, pool: SegmentPool, policy: SchedulingPolicy, order: QueueOrder, budget: StepBudget
    ) -> None:
        self.pool, self.policy, self.order, self.budget = pool, policy, order, budget
        self.reuse: Reuse | None = None
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.preemptions = 0
        self._planned: set[Sequence] = set()  # see `Request.is_planned`
        self._turns = itertools.count()

    def add(self, sequence: Sequence) -> None:
        """Let a sequence wait for its turn."""
        bisect.insort(self.waiting, sequence, key=Sequence.urgency)
        if sequence.request.is_planned:
            self._planned.add(sequence)

    def adopt(self, sequence: Sequence) -> None:
        """Let a sequence run that shares the KV of one that does."""
        self.running.append(sequence)
        if sequence.request.is_planned:
            self._planned.add(sequence)

    def remove(self, sequence: Sequence, *, keep: bool = True) -> None:
        """Forget a sequence and what it holds.

        Args:
            sequence: One that waits or runs, or was just about to.
            keep: Its KV may serve later requests with the same prefix.
        """
        for queue in (self.running, self.waiting):
            if sequence in queue:
                queue.remove(sequence)
        self._planned.discard(sequence)
        sequence.kv.release(keep=keep)

    def repair(self) -> None:
        """Put right what an interrupted step has left: sequences that have ended but still hold
        KV, and sequences without a next token, whose last row is computed again."""
        left = [s for s in self.running if s.is_finished or not len(s.pending)]
        for sequence in left:
            if sequence.is_finished:
                self.remove(sequence, keep=False)
                continue
            if isinstance(sequence.kv, PatchedKV):  # it may have been laid out anew just then
                self._preempt(sequence)
                continue
            last = sequence.num_tokens - 1
            sequence.kv.truncate(last)
            sequence.pending = _positions(last, last + 1)

    def next_slices(self) -> tuple[list[Slice], list[Sequence]]:
        """Slices of the next step, each with memory for its rows, and sequences that need more
        than the whole budget; these must be removed."""
        candidates = self._candidates()
        room = len(self.running) + len(candidates) if self._planned else self.budget.sequences
        budget = replace(self.budget, sequences=room)
        chosen = self.policy.pick(self.running, candidates, budget)
        kept, too_large = self._with_memory(chosen)
        while not too_large and _has_room_left(chosen, kept):
            tried = {piece.sequence for piece in chosen}
            candidates = [one for one in candidates if one not in tried]
            chosen = self.policy.pick(self.running, candidates, budget)
            kept, too_large = self._with_memory(chosen)
        while chosen and self.running and not kept and not too_large:
            # No memory for any of them; those who have it go on. Each round has fewer of these.
            chosen = self.policy.pick(self.running, [], budget)
            kept, too_large = self._with_memory(chosen)
        return kept, too_large

    def _with_memory(self, chosen: list[Slice]) -> tuple[list[Slice], list[Sequence]]:
        """See `next_slices`. Who gets no memory gives up what it has."""
        running = set(self.running)
        kept: list[Slice] = []
        too_large: list[Sequence] = []
        for sequence, tokens in ((piece.sequence, piece.tokens) for piece in chosen):
            if sequence not in running:
                if kept and self._is_promised(sequence):
                    continue  # by one before it in this step
                self._admit(sequence)
                tokens = sequence.within(tokens)  # other positions are pending now
            elif sequence not in self.running:
                continue  # it gave its memory to one before it in this step
            tokens = min(tokens, len(sequence.pending))
            if self._reserve(sequence, tokens, kept):
                kept.append(Slice(sequence, tokens))
            elif len(self.running) == 1:
                too_large.append(sequence)
            else:
                self._preempt(sequence)
        return kept, too_large

    def _candidates(self) -> list[Sequence]:
        """The waiting that could be admitted now, with what they would have to compute.

        A prompt whose prefix another sequence is computing right now waits for it: the rows come
        anyway, and computing them twice would only delay both.
        """
        found = []
        for sequence in self._next():
            match = self.pool.tree.match(_reusable(sequence))
            if match.promised >= _WORTH_WAITING and self.running:
                continue
            sequence.pending = _positions(match.length, sequence.num_tokens)
            found.append(sequence)
        return found

    def _next(self) -> list[Sequence]:
        """The waiting whose turn it is, as many as there are places for; planned ones need none."""
        planned = sum(sequence.request.is_planned for sequence in self.running)
        room = max(self.budget.sequences - (len(self.running) - planned), 0)
        most = room + len(self._planned) - planned
        found = []
        for sequence in self.order.first(self.running, self.waiting, most) if most else ():
            if sequence.request.is_planned or room > 0:
                room -= not sequence.request.is_planned
                found.append(sequence)
        return found

    def _is_promised(self, sequence: Sequence) -> bool:
        """Whether another sequence is about to compute what this one would."""
        return self.pool.tree.match(_reusable(sequence)).promised >= _WORTH_WAITING

    def _admit(self, sequence: Sequence) -> None:
        """Give a waiting sequence what is cached of its prefix and its chunks, and let it run."""
        pending = None
        if self.reuse is not None and isinstance(sequence.kv, PatchedKV):
            exact = self.pool.tree.match(_reusable(sequence)).length
            pending = self.reuse.begin(sequence, exact)
        if pending is None:
            cached = sequence.kv.match(_reusable(sequence))
            pending = _positions(cached, sequence.num_tokens)
        sequence.pending = pending
        if not sequence.preemptions:
            sequence.num_cached_tokens = sequence.kv.num_tokens
        self.waiting.remove(sequence)
        self.running.append(sequence)
        self._give_turn(sequence)

    def _give_turn(self, sequence: Sequence) -> None:
        """Note the order of first admission, and whom it has overtaken."""
        if sequence.request.turn < math.inf:
            return
        first = bisect.bisect_left(self.waiting, sequence.rank(), key=Sequence.rank)
        end = bisect.bisect_left(self.waiting, sequence.urgency(), key=Sequence.urgency)
        for other in self.waiting[first:end]:
            other.overtaken += 1
        sequence.request.turn = next(self._turns)

    def _reserve(self, sequence: Sequence, tokens: int, kept: list[Slice]) -> bool:
        """Find memory for a slice, if need be that of less urgent sequences."""
        end = int(sequence.pending[0]) + tokens
        while True:
            try:
                sequence.kv.reserve(end, sequence.tokens, hint=_hint(sequence))
                return True
            except OutOfKV:
                victim = max(self.running, key=Sequence.urgency)
                if victim is sequence:
                    return False
                kept[:] = [piece for piece in kept if piece.sequence is not victim]
                self._preempt(victim)

    def _preempt(self, sequence: Sequence) -> None:
        """Take a sequence's memory; it waits in its old place and computes again what is lost."""
        self.running.remove(sequence)
        sequence.pending = _positions(0, sequence.num_tokens)
        sequence.preemptions += 1
        self.preemptions += 1
        self.add(sequence)
        sequence.kv.release(keep=True)
        logger.debug("request %s gives up its KV memory", sequence.request.id)


def _has_room_left(chosen: Items[Slice], kept: Items[Slice]) -> bool:
    """Whether somebody who was admitted computes less than was thought: chunks are reused."""
    tokens = {piece.sequence: piece.tokens for piece in kept}
    return any(tokens.get(piece.sequence, piece.tokens) < piece.tokens for piece in chosen)


def _hint(sequence: Sequence) -> int:
    """Where a new segment of a sequence should end.

    A prompt gets one segment, with room for the first tokens of its completion: contiguous rows
    are fastest. A sequence with one pending position grows piece by piece.
    """
    if len(sequence.pending) < 2:
        return 0
    left = sequence.request.sampling.max_tokens - len(sequence.completion)
    return sequence.num_tokens + min(left, _FIRST_ROOM)


_FIRST_ROOM = 64


def _reusable(sequence: Sequence) -> NDArray[np.int32]:
    """The tokens of a sequence whose KV may come from the cache: the last one must be computed
    for its logits, and so must those that are to be scored."""
    request, end = sequence.request, sequence.num_tokens - 1
    if request.admits is not None:  # behind the anchor, and nothing else
        end = min(end, sequence.num_prompt_tokens - len(request.segments[-1].token_ids))
    score_from = request.score_from
    return sequence.tokens[: end if score_from is None else min(end, max(score_from - 1, 0))]


def _positions(start: int, end: int) -> NDArray[np.int32]:
    return np.arange(start, end, dtype=np.int32)
