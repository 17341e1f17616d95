"""Best first, until the budget is spent. The baseline that other selectors must beat.

Source: none; the usual practice, with the budget made hard.
Differs: a hit that does not fit is passed over, and a later, smaller one may still fit, so one
    long passage cannot waste the rest of the budget. Near-duplicates are folded first.
Exact when: always; greedy, not optimal: it does not look for the set of highest total score.
Cost: O(n^2) set intersections over n hits for folding, one token count a hit.
Helps or hurts: folding frees the budget where documents repeat each other (versions,
    boilerplate); it cannot help where they do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chunkwise.rag.selection.base import within_budget
from chunkwise.rag.selection.duplicates import check_containment, fold_duplicates
from chunkwise.types import Budget, Hit, Query

__all__ = ["TopKSelector"]


@dataclass(frozen=True, slots=True)
class TopKSelector:
    """Best first until the token budget or the number of passages is spent.

    Attributes:
        cost: Tokens of a passage as it is sent, context included
            (`chunkwise.prompting.passage_cost`).
        min_containment: A hit is folded into a better one that holds this share of its word
            shingles, in (0, 1]; None folds nothing.
    """

    cost: Callable[[Hit], int]
    min_containment: float | None = 0.9

    def __post_init__(self) -> None:
        check_containment(self.min_containment)

    def select(self, query: Query, hits: Sequence[Hit], budget: Budget) -> list[Hit]:
        """See `Selector.select`; the order is that of `hits`."""
        if self.min_containment is not None:
            hits = fold_duplicates(hits, min_containment=self.min_containment)
        return within_budget(hits, budget, cost=self.cost)
