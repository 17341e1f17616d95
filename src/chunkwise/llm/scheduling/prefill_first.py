"""Whole prompts first, alone; decodes when no prompt waits: the baseline that stalls.

Source: Orca (OSDI 2022) and vLLM as of arXiv 2309.06180, as described in Sarathi-Serve
(arXiv 2403.02310), section 3.
Differs: the number of prompt tokens in a step has no limit, as in the systems it stands for.
Exact when: always; only the order of work changes.   Cost: O(running + admitted) a step.
Helps / hurts: shortest time to first token for the prompt that arrives; every running sequence
waits for it. Measured in benchmarks/RESULTS.md, mixed load. Never a default.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass

from chunkwise.llm.scheduling.base import Slice, StepBudget
from chunkwise.llm.sequence import Sequence

__all__ = ["PrefillFirstPolicy"]


@dataclass(frozen=True, slots=True)
class PrefillFirstPolicy:
    """Prompts as soon as they arrive, whole; `StepBudget.tokens` is not looked at."""

    def pick(
        self, running: Items[Sequence], waiting: Items[Sequence], budget: StepBudget
    ) -> list[Slice]:
        """See `SchedulingPolicy.pick`."""
        room = max(budget.sequences - len(running), 0)
        candidates = sorted([*running, *waiting[:room]], key=Sequence.rank)
        prompts = [s for s in candidates if len(s.pending) > 1]
        return [Slice(s, len(s.pending)) for s in prompts or candidates]
