"""The selector protocol, and spending a budget in a given order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from chunkwise.registry import Registry
from chunkwise.types import Budget, Hit, Query


class Selector(Protocol):
    """Chooses hits under a budget. Built with the parts it declares (`cost` ...)."""

    def select(self, query: Query, hits: Sequence[Hit], budget: Budget) -> list[Hit]:
        """A subset of `hits`, never over budget, in the order in which they enter the prompt.

        A chosen hit is the one given, except that its `copies` may have grown.
        """
        ...


def within_budget(hits: Iterable[Hit], budget: Budget, *, cost: Callable[[Hit], int]) -> list[Hit]:
    """The hits that fit, taken in order; one that does not fit is passed over.

    Args:
        hits: In order of preference; read only as far as needed.
        budget: Tokens and passages that may be spent.
        cost: Tokens of a passage as it is sent.
    """
    chosen: list[Hit] = []
    left = budget.tokens
    for hit in hits:
        if len(chosen) >= budget.passages:
            break
        price = cost(hit)
        if price <= left:
            chosen.append(hit)
            left -= price
    return chosen


selectors: Registry[Selector] = Registry("chunkwise.rag.selection", shared=("base", "duplicates"))
