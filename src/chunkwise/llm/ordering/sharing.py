"""Those that share chunks or a prefix with what runs go next, within a bound on overtaking.

Source: BatchLLM (arXiv 2412.03594) schedules sharers together in batch jobs;
longest shared prefix first as in SGLang (arXiv 2312.07104), section 3.
Differs: chunks count at any place, not only prefixes; for a server, so nobody is overtaken more
than a set number of times, which neither has.
Exact when: always for prompts computed in full; only the order of work changes.   Cost: O(window)
set look-ups a step in which somebody could be admitted.
Helps / hurts: chunks and prefixes are held once by many, and found before they are evicted; a
prompt that shares nothing waits for up to `max_overtaken` others.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass

from chunkwise.errors import ConfigError
from chunkwise.llm.sequence import Sequence

__all__ = ["SharingOrder"]

_SHORTEST = 32  # tokens of a prefix that is looked at, doubled again and again


@dataclass(frozen=True, slots=True)
class SharingOrder:
    """By tokens shared with what runs; then the oldest and those that share with it; then the rest
    by arrival.

    Attributes:
        max_overtaken: Later ones that may be admitted before a sequence; then it is next.
        window: How many of the oldest waiting are looked at.
    """

    max_overtaken: int = 32
    window: int = 1024

    def __post_init__(self) -> None:
        if self.max_overtaken < 0:
            raise ConfigError(f"`max_overtaken` must be at least 0, got {self.max_overtaken!r}.")
        if self.window < 1:
            raise ConfigError(f"`window` must be at least 1, got {self.window!r}.")

    def first(
        self, running: Items[Sequence], waiting: Items[Sequence], count: int
    ) -> list[Sequence]:
        """See `QueueOrder.first`."""
        found: list[Sequence] = []
        at = 0
        while at < len(waiting) and len(found) < count:
            priority = waiting[at].request.priority
            new = bisect.bisect_left(waiting, (priority, math.inf), at, key=Sequence.rank)
            end = bisect.bisect_right(waiting, (priority, math.inf), new, key=Sequence.rank)
            found += waiting[at:new]
            if (room := count - len(found)) > 0 and new < end:
                found += self._next(running, waiting[new : min(end, new + self.window)], room)
                behind = new + self.window
                found += waiting[behind : min(end, behind + room)]
            at = end
        return found[:count]

    def _next(self, running: Items[Sequence], new: Items[Sequence], count: int) -> list[Sequence]:
        """Of one priority's sequences that were never admitted, by arrival, the next `count`."""
        wanted = _preferred(running, new)
        placed: list[int] = []
        left = dict.fromkeys(range(len(new)))  # in order of arrival
        while left and len(placed) < count:
            oldest = next(iter(left))
            overtaken = new[oldest].overtaken + sum(i > oldest for i in placed)
            is_due = overtaken >= self.max_overtaken
            i = oldest if is_due else next((i for i in wanted if i in left), oldest)
            del left[i]
            placed.append(i)
        return [new[i] for i in placed]


def _preferred(running: Items[Sequence], new: Items[Sequence]) -> Iterator[int]:
    """Which of the new ones should go next, best first; one may come twice."""
    yield from _by_shared(running, new)
    yield 0
    yield from _by_shared(new[:1], new)


def _by_shared(those: Iterable[Sequence], new: Items[Sequence]) -> list[int]:
    """Which share something with those, by how many tokens; equals by arrival."""
    theirs = set().union(*map(_parts, those))
    shared = {
        i: sum(tokens for key, tokens in parts.items() if key in theirs)
        for i, parts in enumerate(map(_parts, new))
        if not theirs.isdisjoint(parts)
    }
    return sorted(shared, key=lambda i: -shared[i])


def _parts(sequence: Sequence) -> dict[int | str, int]:
    """What a sequence may share, with the tokens it stands for: prefixes of doubling lengths, and
    where chunks are reused those too."""
    parts: dict[int | str, int] | None = sequence.state.get("sharing")
    if parts is None:
        prompt, parts = sequence.tokens[: sequence.num_prompt_tokens], {}
        length = _SHORTEST
        while length <= len(prompt):
            parts[hash(prompt[:length].tobytes())] = length - (length // 2 if parts else 0)
            length *= 2
        if sequence.kv.holds_chunks:
            pieces = sequence.request.segments
            parts |= {p.content_id: len(p.token_ids) for p in pieces if p.content_id is not None}
        sequence.state["sharing"] = parts
    return parts
