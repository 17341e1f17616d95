"""The engine: requests in, updates out, one packed step at a time.

`step` is three calls: choose slices and find memory for them, run them, take the tokens. Requests
wait without memory or run with KV segments; a request that needs memory when none is left takes it
from less urgent ones, which compute again later what was not kept (preemption by recompute).

One thread at a time may call it. Two engines in one process know nothing of each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from chunkwise.errors import (
    ChunkwiseError,
    OutOfMemoryForKVError,
    PromptTooLongError,
    RequestError,
)
from chunkwise.llm.costs import CostModel, Work
from chunkwise.llm.detokenizer import TokenDecoder
from chunkwise.llm.kv.patched import PatchedKV
from chunkwise.llm.kv.segments import SegmentPool, SequenceKV
from chunkwise.llm.ordering.base import QueueOrder
from chunkwise.llm.outputs import Output, TokenLogprob, Update
from chunkwise.llm.queues import Queues
from chunkwise.llm.reusing import Reuse, is_probing
from chunkwise.llm.runner import Runner, ScoredRows, StepResult
from chunkwise.llm.sampling import NOT_FINITE, Sampled, Sampler
from chunkwise.llm.scheduling.base import SchedulingPolicy, Slice, StepBudget
from chunkwise.llm.sequence import FinishReason, Request, Sequence
from chunkwise.llm.structured import structure_of
from chunkwise.llm.tracking import Tracked, track


class Engine:
    """Runs requests over one model.

    Attributes:
        max_tokens: Most tokens of prompt and completion together: what the model's context and
            the KV budget both allow.
        num_steps: Steps so far.
        num_rows: Rows computed so far, all steps together.
        costs: What computing takes here.
    """

    def __init__(
        self,
        runner: Runner,
        pool: SegmentPool,
        sampler: Sampler,
        decoder: TokenDecoder,
        *,
        policy: SchedulingPolicy,
        order: QueueOrder,
        budget: StepBudget,
        context: int,
        end_ids: Iterable[int] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.runner, self.pool, self.sampler, self.decoder = runner, pool, sampler, decoder
        self.queues = Queues(pool, policy, order, budget)
        self.context, self.end_ids, self.clock = context, frozenset(end_ids), clock
        self.max_tokens = min(context, pool.max_tokens)
        self.costs = CostModel(Work.of(runner.model.config))
        self.num_steps = self.num_rows = 0
        self._tracked: dict[str, Tracked] = {}
        self._updates: list[Update] = []  # not handed out yet
        self._arrivals = 0

    @property
    def reuse(self) -> Reuse | None:
        """What it reuses chunks with, or None."""
        return self.queues.reuse

    def use(self, reuse: Reuse | None) -> None:
        """Reuse chunks from now on, or no more; while there is no request."""
        self.queues.reuse = reuse

    def add(self, request: Request) -> None:
        """Take a request; nothing is computed before `step`.

        Raises:
            PromptTooLongError: It does not fit the context or the KV budget.
            RequestError: It is empty, its id is in use, or its sampling settings are wrong.
        """
        ids = request.prompt_ids
        self._check(request, ids)
        request.arrival, request.arrived = self._arrivals, self.clock()
        self._arrivals += 1
        prompt, pending = ids.astype(np.int32), np.arange(len(ids), dtype=np.int32)
        sequence = Sequence(request, 0, prompt, len(prompt), pending, self._kv(request))
        self._tracked[request.id] = track(sequence, self.decoder)
        self.queues.add(sequence)

    def has_work(self) -> bool:
        """Whether a `step` would do anything."""
        return bool(self._updates or self.queues.waiting or self.queues.running)

    def step(self) -> list[Update]:
        """Compute one packed batch and take its tokens.

        A failure of the machine (out of memory, say) or an interrupt is raised. No request is
        lost by it: the next steps hand out what was finished and compute again what was not.

        Raises:
            ChunkwiseError: The scheduling policy chose nothing although requests wait.
        """
        if not self._updates:  # else the last step was interrupted
            self._compute()
        updates, self._updates = self._updates, []
        return updates

    def cancel(self, request_id: str, reason: FinishReason = "cancelled") -> list[Update]:
        """End a request now; what it has computed stays for later ones. Unknown ids are none.

        Returns:
            All its updates that no step has handed out.
        """
        if request_id in self._tracked:
            self._end(self._tracked[request_id], reason)
        found = [update for update in self._updates if update.request_id == request_id]
        self._updates = [update for update in self._updates if update.request_id != request_id]
        return found

    def is_finished(self, request_id: str) -> bool:
        """Whether nothing more comes for a request that is in the engine."""
        is_told = all(update.request_id != request_id for update in self._updates)
        return is_told and self._tracked[request_id].is_finished

    def output(self, request_id: str) -> Output:
        """What a request has given so far; forgets the request if it is finished."""
        tracked = self._tracked[request_id]
        output = tracked.output(self.clock())
        if self.is_finished(request_id):
            del self._tracked[request_id]
            if self.reuse is not None:
                self.reuse.audit.note(tracked.request, output)
        return output

    def _kv(self, request: Request) -> SequenceKV:
        has_chunks = any(piece.content_id is not None for piece in request.segments)
        is_plain = request.admits is not None or request.is_exact
        if self.reuse is None or self.reuse.audit.is_refused or not has_chunks or is_plain:
            return SequenceKV(self.pool)
        return PatchedKV(self.pool, self.reuse.store)

    def _check(self, request: Request, prompt: NDArray[np.int64]) -> None:
        if request.id in self._tracked:
            raise RequestError(f"The request id {request.id!r} is in use.")
        if not len(prompt):
            raise RequestError("The prompt has no tokens; give at least one.")
        vocab_size = self.runner.model.config.vocab_size
        if prompt.min() < 0 or prompt.max() >= vocab_size:
            wrong = int(prompt[(prompt < 0) | (prompt >= vocab_size)][0])
            raise RequestError(
                f"The prompt holds token {wrong}; the model has 0 .. {vocab_size - 1}."
            )
        self.sampler.check(request.sampling)
        if len(prompt) >= self.context:
            raise PromptTooLongError(
                f"The prompt has {len(prompt)} tokens; with the model's context of {self.context} "
                f"it may have {self.context - 1}. Send less, or fewer passages (`budget_tokens`)."
            )
        if len(prompt) >= self.pool.max_tokens:
            raise OutOfMemoryForKVError(
                f"The prompt has {len(prompt)} tokens; the KV budget holds {self.pool.max_tokens} "
                f"({self.pool.budget_bytes / 2**20:.0f} MiB). Raise `kv_budget_mb`, or send less."
            )

    def _compute(self) -> None:
        """One step; what it gives is in `_updates`, also if it is interrupted."""
        self.queues.repair()
        self._expire()
        slices, too_large = self.queues.next_slices()
        for sequence in too_large:
            self._finish(sequence, "error", error=self._no_room(sequence))
        if not slices:
            self._check_progress()
            return
        now = self.clock()
        for piece in slices:
            tracked = self._tracked[piece.sequence.request.id]
            tracked.started = tracked.started or now
        rows = sum(piece.tokens for piece in slices)
        pairs = sum(int((p.sequence.pending[: p.tokens] + 1).sum()) for p in slices)
        is_plain = not any(is_probing(piece.sequence) for piece in slices)
        result = self.runner.run(slices, self._score)
        if is_plain:  # a probe has fewer layers and more work in each
            self.costs.computed(rows, pairs, self.clock() - now)
        self.num_steps += 1
        self.num_rows += rows
        self._take(slices, result)

    def _take(self, slices: list[Slice], result: StepResult) -> None:
        """Book what a step computed: KV that is there now, and new tokens.

        The tokens are drawn before anything is booked: that is where a request can fail.
        """
        for i in result.failed:
            self._finish(slices[i].sequence, "error", error=NOT_FINITE)
        sequences, tokens = self._draw(slices, result)
        for piece in slices:
            if not piece.sequence.is_finished:
                _mark_computed(piece)
        for i in result.passed:
            if not slices[i].sequence.is_finished:
                self._pass(slices[i].sequence)
        for sequence in sequences:
            self._adopt(sequence)
        for sequence, token in zip(sequences, tokens, strict=True):
            self._append(sequence, token)

    def _draw(
        self, slices: list[Slice], result: StepResult
    ) -> tuple[list[Sequence], list[Sampled]]:
        """Next tokens, and whose they are: of `n` > 1 also the siblings', who begin here."""
        sequences: list[Sequence] = []
        rows: list[int] = []
        for row, i in enumerate(result.sampled):
            sequence = slices[i].sequence
            if sequence.is_finished:
                continue
            if sequence.request.wants_logits and sequence.request.logits is None:
                sequence.request.logits = result.logits[row].clone()
            family = [sequence]
            if not sequence.index:
                family += self._tracked[sequence.request.id].siblings()
            sequences += family
            rows += [row] * len(family)
        if not sequences:
            return [], []
        logits = result.logits
        if rows != list(range(len(logits))):
            logits = logits[torch.tensor(rows, device=logits.device)]
        return sequences, self.sampler.sample(logits, sequences)

    def _pass(self, sequence: Sequence) -> None:
        """Go on with a sequence that is computed for something else than a token."""
        if self.reuse is None:
            return
        if sequence.request.admits is not None:
            self.reuse.keep(sequence)
            self._finish(sequence, "stop")
        else:
            self.reuse.advance(sequence)

    def _adopt(self, sequence: Sequence) -> None:
        """Let a new sibling share the prompt's KV, before the first one grows."""
        tracked = self._tracked[sequence.request.id]
        if sequence.index >= len(tracked.sequences):
            sequence.kv = tracked.sequences[0].kv.fork()
            self.queues.adopt(sequence)
            tracked.sequences.append(sequence)

    def _score(self, rows: ScoredRows) -> None:
        """Keep the log-probabilities of prompt tokens."""
        sequence, count = rows.sequence, len(rows.logits)
        tracked, request = self._tracked[sequence.request.id], sequence.request
        targets = sequence.tokens[rows.first : rows.first + count].tolist()
        top = request.sampling.prompt_logprobs or 0
        found = self.sampler.score(rows.logits, targets, top, request.beside)
        for position, score in enumerate(found, start=rows.first):
            if score.logprob is None:
                if not sequence.is_finished:
                    self._finish(sequence, "error", error=score.error)
                return
            tracked.scores[position] = TokenLogprob(
                score.token_id, score.logprob, score.top, score.beside
            )

    def _append(self, sequence: Sequence, token: Sampled) -> None:
        """Add one sampled token to its completion; end it where it ends."""
        if token.error:
            self._finish(sequence, "error", error=token.error)
            return
        tracked = self._tracked[sequence.request.id]
        tracked.first_token = tracked.first_token or self.clock()
        is_end = self._is_end(sequence, token.token_id)
        update = tracked.append(sequence, token, is_end=is_end)
        is_stopped = is_end or tracked.texts[sequence.index].stopped
        reason, error = self._ending(sequence, is_stopped=is_stopped)
        if reason:
            self._finish(sequence, reason, error=error, last=update)
        else:
            self._updates.append(update)

    def _finish(
        self,
        sequence: Sequence,
        reason: FinishReason,
        *,
        error: str = "",
        last: Update | None = None,
    ) -> None:
        """End a sequence and give its memory back; KV of one that went wrong is not kept."""
        tracked = self._tracked[sequence.request.id]
        tracked.finished = self.clock()
        self._updates += tracked.finish(sequence, reason, error, last)
        keep = reason != "error" and sequence.request.admits is None
        if self.reuse is not None:
            self.reuse.forget(sequence.request)
        self.queues.remove(sequence, keep=keep)

    def _end(self, tracked: Tracked, reason: FinishReason) -> None:
        """End what still runs of a request."""
        for sequence in tracked.sequences:
            if not sequence.is_finished:
                self._finish(sequence, reason)

    def _ending(self, sequence: Sequence, *, is_stopped: bool) -> tuple[FinishReason | None, str]:
        """Why a sequence ends with its last token, if it does, and what went wrong."""
        try:
            if is_stopped or self._is_complete(sequence):
                return "stop", ""
        except RequestError as exc:  # the grammar's
            return "error", str(exc)
        return ("length" if self._is_full(sequence) else None), ""

    def _is_end(self, sequence: Sequence, token_id: int) -> bool:
        sampling = sequence.request.sampling
        if token_id in sampling.stop_token_ids:
            return True
        return token_id in self.end_ids and not sampling.ignore_eos

    def _is_complete(self, sequence: Sequence) -> bool:
        """Whether structured output is finished: only an end token could follow."""
        grammar = self.sampler.grammar
        is_structured = any(structure_of(sequence.request.sampling))
        return is_structured and grammar is not None and grammar.is_complete(sequence)

    def _is_full(self, sequence: Sequence) -> bool:
        length = len(sequence.completion)
        return (
            length >= sequence.request.sampling.max_tokens or sequence.num_tokens >= self.max_tokens
        )

    def _expire(self) -> None:
        """End the requests whose deadline has passed."""
        now = self.clock()
        for tracked in self._tracked.values():
            deadline = tracked.request.deadline
            if deadline is not None and deadline <= now:
                self._end(tracked, "deadline")

    def _check_progress(self) -> None:
        """Raise where waiting for a request would never end."""
        going = [key for key, tracked in self._tracked.items() if not tracked.is_finished]
        if going:
            raise ChunkwiseError(
                f"Nothing was chosen to be computed, and {len(going)} requests are not finished "
                f"({going[0]!r} first): the scheduling policy {self.queues.policy!r} must choose "
                "something while anything is pending. Close these requests, or use another policy."
            )

    def _no_room(self, sequence: Sequence) -> str:
        return (
            f"The KV budget of {self.pool.budget_bytes / 2**20:.0f} MiB is too small for this "
            f"request at {sequence.num_tokens} tokens, alone. Raise `kv_budget_mb`."
        )


def _mark_computed(piece: Slice) -> None:
    """The rows of a slice are there; tails that have become many pieces are joined."""
    sequence, end = piece.sequence, int(piece.sequence.pending[piece.tokens - 1]) + 1
    sequence.pending = sequence.pending[piece.tokens :]
    sequence.kv.mark_computed(end)
    if sequence.kv.num_tokens == sequence.kv.num_reserved:
        sequence.kv.join()
