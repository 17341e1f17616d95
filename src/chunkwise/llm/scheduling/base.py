"""The `SchedulingPolicy` protocol: who computes how many tokens in the next step."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Protocol

from chunkwise.llm.sequence import Sequence
from chunkwise.registry import Registry


@dataclass(frozen=True, slots=True)
class StepBudget:
    """What one step may hold.

    Attributes:
        tokens: Most rows of a step, counted by `Sequence.work`. Sequences with one pending position
            each are never cut: if they alone are more, they all run.
        sequences: Most sequences that hold KV at a time.
    """

    tokens: int = 512
    sequences: int = 64


@dataclass(frozen=True, slots=True)
class Slice:
    """One sequence's share of a step: its first `tokens` pending positions."""

    sequence: Sequence
    tokens: int


class SchedulingPolicy(Protocol):
    """Chooses; changes nothing. Greedy output does not depend on it, and nobody starves."""

    def pick(
        self, running: Items[Sequence], waiting: Items[Sequence], budget: StepBudget
    ) -> list[Slice]:
        """Shares of the next step, at least one row each; none only if nothing is pending.

        Of sequences that wait or have more than one position pending, and for which
        `budget.sequences` has room, none has a share unless all before it have one: by
        `Sequence.rank`, equals in the order given.

        Args:
            running: Sequences that hold KV, in order of admission.
            waiting: Sequences that hold none, in the order in which they are to be admitted; it
                agrees with `Sequence.rank`. A slice of one of these admits it.
        """
        ...


policies: Registry[SchedulingPolicy] = Registry("chunkwise.llm.scheduling")
