"""Decodes first, prompt slices in what is left of a token budget.

Source: Sarathi-Serve (arXiv 2403.02310), section 4.2, algorithm 3; SARATHI (arXiv 2308.16369).
Differs: one list of running sequences with pending positions instead of two kinds of request; a
floor keeps prompts moving when decodes fill the budget (the paper's scheduler starves them);
sequences with one pending position are never cut, as in the paper; rows whose attention is noted
count as several.
Exact when: always; only the order of work changes.   Cost: O(running + admitted) a step.
Helps / hurts: benchmarks/RESULTS.md, mixed load.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass

from chunkwise.errors import ConfigError
from chunkwise.llm.scheduling.base import Slice, StepBudget
from chunkwise.llm.sequence import Sequence

__all__ = ["StallFreePolicy"]


@dataclass(frozen=True, slots=True)
class StallFreePolicy:
    """No running sequence waits for another one's prompt.

    Attributes:
        floor: Tokens of a step that prompts get even when decodes fill the budget; never more
            than a quarter of it.
    """

    floor: int = 16

    def __post_init__(self) -> None:
        if self.floor < 1:
            raise ConfigError(f"`floor` must be at least 1, got {self.floor!r}.")

    def pick(
        self, running: Items[Sequence], waiting: Items[Sequence], budget: StepBudget
    ) -> list[Slice]:
        """See `SchedulingPolicy.pick`. Of prompts, admitted or not, none is overtaken."""
        picked = [Slice(s, 1) for s in running if len(s.pending) == 1]
        floor = min(self.floor, max(budget.tokens // 4, 1))
        left = max(budget.tokens - len(picked), floor)
        room = max(budget.sequences - len(running), 0)
        prompts = [*(s for s in running if len(s.pending) > 1), *waiting[:room]]
        for sequence in sorted(prompts, key=Sequence.rank):
            if left <= 0:
                break
            tokens = sequence.within(left)
            picked.append(Slice(sequence, tokens))
            left -= sequence.work(tokens) if tokens == len(sequence.pending) else left
        return picked
