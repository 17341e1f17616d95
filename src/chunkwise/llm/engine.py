"""The engine: requests in, updates out, one packed step at a time.

`step` is three calls: choose slices and find memory for them, run them, take the tokens. Requests
wait without memory or run with KV segments; a request that needs memory when none is left takes it
from less urgent ones, which compute again later what was not kept (preemption by recompute).

One thread at a time may call it. Two engines in one process know nothing of each other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch

from chunkwise.errors import OutOfMemoryForKVError, PromptTooLongError, RequestError
from chunkwise.llm.detokenizer import Detokenizer, TokenDecoder
from chunkwise.llm.kv.segments import SegmentPool, SequenceKV
from chunkwise.llm.outputs import Completion, Output, TokenLogprob, Update
from chunkwise.llm.queues import Queues
from chunkwise.llm.runner import Runner, ScoredRows, StepResult
from chunkwise.llm.sampling import Sampled, Sampler
from chunkwise.llm.scheduling.base import SchedulingPolicy, Slice, StepBudget
from chunkwise.llm.sequence import FinishReason, Request, Sequence
from chunkwise.llm.structured import structure_of

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Tracked:
    """A request in the engine, its sequences, and what it gave so far."""

    request: Request
    prompt_tokens: int
    sequences: list[Sequence] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    texts: list[Detokenizer] = field(default_factory=list)
    scores: dict[int, TokenLogprob] = field(default_factory=dict)
    started: float = 0.0
    first_token: float = 0.0
    finished: float = 0.0


class Engine:
    """Runs requests over one model.

    Attributes:
        max_tokens: Most tokens of prompt and completion together: what the model's context and
            the KV budget both allow.
        num_steps: Steps so far.
        num_rows: Rows computed so far, all steps together.
    """

    def __init__(
        self,
        runner: Runner,
        pool: SegmentPool,
        sampler: Sampler,
        decoder: TokenDecoder,
        *,
        policy: SchedulingPolicy,
        budget: StepBudget,
        context: int,
        end_ids: Iterable[int] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.runner, self.pool, self.sampler, self.decoder = runner, pool, sampler, decoder
        self.queues = Queues(pool, policy, budget)
        self.context, self.end_ids, self.clock = context, frozenset(end_ids), clock
        self.max_tokens = min(context, pool.max_tokens)
        self.num_steps = self.num_rows = 0
        self._tracked: dict[str, _Tracked] = {}
        self._arrivals = 0

    def add(self, request: Request) -> None:
        """Take a request; nothing is computed before `step`.

        Raises:
            PromptTooLongError: It does not fit the context or the KV budget.
            RequestError: It is empty, its id is in use, or its sampling settings are wrong.
        """
        prompt = request.prompt_ids
        self._check(request, prompt)
        request.arrival, request.arrived = self._arrivals, self.clock()
        self._arrivals += 1
        tracked = _Tracked(request, len(prompt))
        self._tracked[request.id] = tracked
        pending = np.arange(len(prompt), dtype=np.int32)
        sequence = Sequence(request, 0, prompt, len(prompt), pending, SequenceKV(self.pool))
        self._track(tracked, sequence)
        self.queues.add(sequence)

    def has_work(self) -> bool:
        """Whether a `step` would do anything."""
        return bool(self.queues.waiting or self.queues.running)

    def step(self) -> list[Update]:
        """Compute one packed batch and take its tokens.

        A failure of the machine (out of memory, say) is raised; the requests stay as they were.
        """
        updates = self._expire()
        slices, too_large = self.queues.next_slices()
        updates += [self._finish(s, "error", error=self._no_room(s)) for s in too_large]
        if slices:
            now = self.clock()
            for piece in slices:
                tracked = self._tracked[piece.sequence.request.id]
                tracked.started = tracked.started or now
            result = self.runner.run(slices)
            self.num_steps += 1
            self.num_rows += sum(piece.tokens for piece in slices)
            updates += self._take(slices, result)
        return updates

    def cancel(self, request_id: str, reason: FinishReason = "cancelled") -> list[Update]:
        """End a request now; what it has computed stays for later ones. Unknown ids are none."""
        tracked = self._tracked.get(request_id)
        going = [] if tracked is None else [s for s in tracked.sequences if not s.is_finished]
        return [self._finish(sequence, reason) for sequence in going]

    def is_finished(self, request_id: str) -> bool:
        """Whether nothing more comes for a request that is in the engine."""
        tracked = self._tracked[request_id]
        return all(sequence.is_finished for sequence in tracked.sequences)

    def output(self, request_id: str) -> Output:
        """What a request has given so far; forgets the request if it is finished."""
        tracked = self._tracked[request_id]
        if self.is_finished(request_id):
            del self._tracked[request_id]
        first, arrived = tracked.sequences[0], tracked.request.arrived
        usage = {
            "prompt_tokens": tracked.prompt_tokens,
            "cached_tokens": first.num_cached_tokens,
            "completion_tokens": sum(len(c.token_ids) for c in tracked.completions),
        }
        marks = {
            "queue": tracked.started,
            "first_token": tracked.first_token,
            "total": tracked.finished or self.clock(),
        }
        timings = {name: round((at - arrived) * 1000, 3) for name, at in marks.items() if at}
        scores = tuple(tracked.scores[position] for position in sorted(tracked.scores))
        return Output(request_id, tuple(tracked.completions), usage, timings, scores)

    def _check(self, request: Request, prompt: np.ndarray) -> None:
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

    def _take(self, slices: list[Slice], result: StepResult) -> list[Update]:
        """Book what a step computed: KV that is there now, scores, and new tokens."""
        ended = [self._finish(slices[i].sequence, "error", error=_NAN) for i in result.failed]
        for rows in result.scored:
            sequence = slices[rows.which].sequence
            if not sequence.is_finished and (error := self._score(sequence, rows)):
                ended.append(self._finish(sequence, "error", error=error))
        for piece in slices:
            if not piece.sequence.is_finished:
                _mark_computed(piece)
        going = [i for i in result.sampled if not slices[i].sequence.is_finished]
        sequences, rows_of = self._forked([slices[i].sequence for i in going])
        if not sequences:
            return ended
        logits = result.logits
        if len(rows_of) != len(logits):
            at = [result.sampled.index(going[row]) for row in rows_of]
            logits = logits[torch.tensor(at, device=logits.device)]
        for sequence, row in zip(sequences, logits, strict=True):
            if sequence.request.wants_logits and sequence.request.logits is None:
                sequence.request.logits = row.clone()
        tokens = self.sampler.sample(logits, sequences)
        return ended + [self._append(s, t) for s, t in zip(sequences, tokens, strict=True)]

    def _forked(self, sequences: list[Sequence]) -> tuple[list[Sequence], list[int]]:
        """The sequences, those of `n` > 1 with their siblings, and whose row of logits each has."""
        found, rows = [], []
        for row, sequence in enumerate(sequences):
            tracked = self._tracked[sequence.request.id]
            family = [sequence]
            if len(tracked.sequences) < sequence.request.sampling.n:
                family += [
                    self._fork(tracked, sequence, i) for i in range(1, sequence.request.sampling.n)
                ]
            found += family
            rows += [row] * len(family)
        return found, rows

    def _fork(self, tracked: _Tracked, sequence: Sequence, index: int) -> Sequence:
        fork = Sequence(
            sequence.request,
            index,
            sequence.tokens.copy(),
            sequence.num_prompt_tokens,
            sequence.pending,
            sequence.kv.fork(),
            num_cached_tokens=sequence.num_cached_tokens,
        )
        self._track(tracked, fork)
        self.queues.running.append(fork)
        return fork

    def _track(self, tracked: _Tracked, sequence: Sequence) -> None:
        tracked.sequences.append(sequence)
        tracked.completions.append(Completion())
        before = sequence.tokens[: sequence.num_prompt_tokens][-_TEXT_CONTEXT:].tolist()
        stop = tracked.request.sampling.stop
        tracked.texts.append(Detokenizer(self.decoder, stop, before=before))

    def _score(self, sequence: Sequence, rows: ScoredRows) -> str:
        """Keep the log-probabilities of prompt tokens; returns what went wrong, or nothing."""
        tracked, sampling = self._tracked[sequence.request.id], sequence.request.sampling
        targets = sequence.tokens[rows.first : rows.first + len(rows.logits)]
        found = self.sampler.score(rows.logits, targets.tolist(), sampling.prompt_logprobs or 0)
        for position, score in enumerate(found, start=rows.first):
            if score.logprob is None:
                return score.error or _NAN
            tracked.scores[position] = TokenLogprob(score.token_id, score.logprob, score.top)
        return ""

    def _append(self, sequence: Sequence, token: Sampled) -> Update:
        """Add one sampled token to its completion; end it where it ends."""
        if token.error:
            return self._finish(sequence, "error", error=token.error)
        tracked = self._tracked[sequence.request.id]
        tracked.first_token = tracked.first_token or self.clock()
        completion, text = tracked.completions[sequence.index], tracked.texts[sequence.index]
        sequence.append(token.token_id)
        completion.token_ids.append(token.token_id)
        logprobs: tuple[TokenLogprob, ...] = ()
        if token.logprob is not None:
            logprobs = (TokenLogprob(token.token_id, token.logprob, token.top),)
            completion.logprobs.extend(logprobs)
        is_end = self._is_end(sequence, token.token_id)
        new = "" if is_end else text.push([token.token_id])
        completion.text += new
        if is_end or text.stopped or self._is_complete(sequence):
            reason: FinishReason | None = "stop"
        else:
            reason = "length" if self._is_full(sequence) else None
        if reason:
            return self._finish(sequence, reason, new, (token.token_id,), logprobs)
        return Update(sequence.request.id, sequence.index, new, (token.token_id,), logprobs)

    def _finish(
        self,
        sequence: Sequence,
        reason: FinishReason,
        text: str = "",
        token_ids: tuple[int, ...] = (),
        logprobs: tuple[TokenLogprob, ...] = (),
        *,
        error: str = "",
    ) -> Update:
        """End a sequence and give its memory back; KV of one that went wrong is not kept."""
        tracked = self._tracked[sequence.request.id]
        completion = tracked.completions[sequence.index]
        rest = tracked.texts[sequence.index].finish()
        completion.text += rest
        sequence.finish_reason = completion.finish_reason = reason
        sequence.error = completion.error = error
        self.queues.remove(sequence, keep=reason != "error")
        tracked.finished = self.clock()
        return Update(
            sequence.request.id, sequence.index, text + rest, token_ids, logprobs, reason, error
        )

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

    def _expire(self) -> list[Update]:
        """End the requests whose deadline has passed."""
        now = self.clock()
        late = [
            t.request.id
            for t in self._tracked.values()
            if t.request.deadline is not None and t.request.deadline <= now
        ]
        return [update for request_id in late for update in self.cancel(request_id, "deadline")]

    def _no_room(self, sequence: Sequence) -> str:
        return (
            f"The KV budget of {self.pool.budget_bytes / 2**20:.0f} MiB is too small for this "
            f"request at {sequence.num_tokens} tokens, alone. Raise `kv_budget_mb`."
        )


_TEXT_CONTEXT = 8
"""Tokens of the prompt that the detokenizer sees: they decide on the first space."""

_NAN = (
    "The model computed NaN or infinity for this prompt: the weights are damaged, or overflow in "
    "this type of numbers (try `dtype` float32)."
)


def _mark_computed(piece: Slice) -> None:
    """The rows of a slice are there; tails that have become many pieces are joined."""
    sequence = piece.sequence
    sequence.kv.mark_computed(int(sequence.pending[piece.tokens - 1]) + 1)
    sequence.pending = sequence.pending[piece.tokens :]
    if sequence.kv.num_tokens == sequence.kv.num_reserved:
        sequence.kv.join()
