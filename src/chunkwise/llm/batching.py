"""A batch job: all its requests in a good order, as many at a time as memory has room for.

Source: BatchLLM (arXiv 2412.03594): batches limited by memory instead of a number of requests.
Differs: what finished requests have used corrects the estimate of those to come.
Exact when: always; only the order of work changes.
Helps / hurts: benchmarks/RESULTS.md, batch jobs. A wrong estimate costs preemptions, no tokens.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from chunkwise.llm.grouping import Job, ordered, shared_lengths
from chunkwise.llm.outputs import Output
from chunkwise.llm.sequence import Request

_FIRST_ROOM = 64
"""Tokens of a completion that have room in its prompt's segment (see `queues.py`)."""


class Part(NamedTuple):
    """Something that one or several requests hold; by `key`, equal ones are one."""

    key: object
    tokens: int


class Room:
    """Tokens that fit, together; a part counts once, whoever holds it.

    Args:
        tokens: How many.
    """

    def __init__(self, tokens: int) -> None:
        self.free = tokens
        self._holders: Counter[object] = Counter()

    def fits(self, parts: Iterable[Part]) -> bool:
        """Whether there is room for what nobody holds of these."""
        return sum(part.tokens for part in parts if not self._holders[part.key]) <= self.free

    def add(self, parts: Iterable[Part]) -> None:
        """Count one more holder of each."""
        for part in parts:
            self.free -= 0 if self._holders[part.key] else part.tokens
            self._holders[part.key] += 1

    def remove(self, parts: Iterable[Part]) -> None:
        """Count one holder less of each."""
        for part in parts:
            self._holders[part.key] -= 1
            self.free += 0 if self._holders[part.key] else part.tokens


class Share:
    """Which share of the most that was possible has been used on average; 1 to begin with."""

    def __init__(self) -> None:
        self._sum = self._seen = 4.0

    def note(self, used: int, most: int) -> None:
        """Take one more into account."""
        self._sum += min(used / most, 1.0)
        self._seen += 1

    def of(self, most: int) -> int:
        """What is to be expected."""
        return math.ceil(most * self._sum / self._seen)


@dataclass(frozen=True, slots=True)
class Planned:
    """A request of the job.

    Attributes:
        index: Which prompt it is.
        request: What is sent.
        job: What is known of it.
        segments: The segments that it shares, and its own prompt's.
    """

    index: int
    request: Request
    job: Job
    segments: tuple[Part, ...]


class Batch:
    """Says which requests to send now; does not send them.

    Args:
        requests: With the indices of their prompts.
        max_tokens: Most tokens of one prompt and completion together.
        kv_tokens: Tokens of all that run at a time for which there is memory.
        chunk_tokens: Tokens of reused chunks for which there is memory; 0: none are reused.
    """

    def __init__(
        self,
        requests: Iterable[tuple[int, Request]],
        max_tokens: int,
        kv_tokens: int,
        chunk_tokens: int = 0,
    ) -> None:
        self._waiting = deque(_planned(requests, max_tokens, chunk_tokens))
        self._kv, self._chunks = Room(kv_tokens), Room(chunk_tokens)
        self._written, self._fresh = Share(), Share()
        self._flight: dict[str, tuple[Planned, list[Part]]] = {}

    @property
    def in_flight(self) -> list[str]:
        """Ids of the requests to be sent or sent, and not done."""
        return list(self._flight)

    def send(self) -> list[Request]:
        """Requests to be sent now: those that fit beside what is in flight, at least one if
        nothing is."""
        found = []
        while self._waiting:
            one = self._waiting[0]
            parts, chunks = self._parts(one), _chunks(one)
            fits = self._kv.fits(parts) and self._chunks.fits(chunks)
            if self._flight and not fits:
                break
            self._waiting.popleft()
            self._kv.add(parts)
            self._chunks.add(chunks)
            self._flight[one.request.id] = one, parts
            found.append(one.request)
        return found

    def done(self, request_id: str, output: Output) -> tuple[int, Output]:
        """Take a request's output; gives it back with the index of its prompt."""
        one, parts = self._flight.pop(request_id)
        self._kv.remove(parts)
        self._chunks.remove(_chunks(one))
        if output.finish_reason != "error":
            self._written.note(output.usage["completion_tokens"], one.job.new)
        reused = output.usage.get("reused_tokens", 0)
        if reused and (most := sum(one.job.chunks.values())):
            self._fresh.note(max(most - reused, 0), most)
        return one.index, output

    def _parts(self, one: Planned) -> list[Part]:
        """What it is expected to hold at its end, besides chunks."""
        grown = self._written.of(one.job.new)
        if one.job.chunks:
            own = one.job.rows + self._fresh.of(sum(one.job.chunks.values())) + grown
        else:
            own = max(grown - _FIRST_ROOM, 0)
        return [*one.segments, Part(one.request.id, own)]


def _chunks(one: Planned) -> list[Part]:
    return [Part(name, tokens) for name, tokens in one.job.chunks.items()]


def _planned(
    requests: Iterable[tuple[int, Request]], max_tokens: int, chunk_tokens: int
) -> Iterator[Planned]:
    """All requests in order, with the segments that they hold."""
    by_job = {_job(one[1], max_tokens, chunk_tokens): one for one in requests}
    jobs = ordered(by_job)
    for job, segments in zip(jobs, _segments(jobs), strict=True):
        index, request = by_job[job]
        request.is_planned = True
        yield Planned(index, request, job, segments)


def _job(request: Request, max_tokens: int, chunk_tokens: int) -> Job:
    prompt = request.prompt_ids.astype(np.int32)
    sampling = request.sampling
    new = max(min(sampling.max_tokens, max_tokens - len(prompt)), 1) * max(sampling.n, 1)
    pieces = request.segments if not request.is_exact else ()
    chunks = {p.content_id: len(p.token_ids) for p in pieces if p.content_id is not None}
    return Job(prompt, new, chunks if sum(chunks.values()) <= chunk_tokens else {})


def _segments(jobs: Items[Job]) -> Iterator[tuple[Part, ...]]:
    """The segments that each holds when all are computed in this order: a prompt's rows behind
    what it shares are one segment, and who shares any of it holds all of it."""
    stack: list[tuple[int, Part]] = []  # first position, segment
    for number, (job, common) in enumerate(zip(jobs, shared_lengths(jobs), strict=True)):
        if job.chunks:
            stack.clear()
            yield ()
            continue
        while stack and stack[-1][0] >= common:
            stack.pop()
        rows = len(job.prompt) - common + min(job.new, _FIRST_ROOM)
        stack.append((common, Part(number, rows)))
        yield tuple(part for _, part in stack)
