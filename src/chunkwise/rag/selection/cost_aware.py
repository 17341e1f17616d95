"""The most relevance for the time that a local model takes to read it.

A chunk that the model has read before costs a few milliseconds, another one hundreds; the engine
says what each would cost now. Under a budget of milliseconds, cached passages leave room for more.

Source: ours; a knapsack with the costs of RAGCache (arXiv 2404.12457) and Cache-Craft
    (arXiv 2502.15734), which order what is cached and not what is chosen.
Differs: relevance is the rank of a hit, 1 / (1 + rank), as scores have no common scale.
Exact when: no budget binds: then the hits of `top_k`. Greedy, the better of two orders, then swaps
    of one for one while they gain: not always the best set.
Cost: O(n^2) for n hits, and tokenising them with the model's tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from chunkwise.errors import ConfigError
from chunkwise.rag.selection.duplicates import check_containment, fold_duplicates
from chunkwise.types import Budget, Hit, Query

__all__ = ["CostAwareSelector"]

_Order = Literal["relevance", "reuse"]


@dataclass(frozen=True, slots=True)
class CostAwareSelector:
    """Most relevance under a budget of time and tokens.

    Attributes:
        cost: Tokens of a passage as it is sent, context included
            (`chunkwise.prompting.passage_cost`).
        price: Predicted milliseconds that the model takes to read each of some hits now.
        budget_ms: Most of them for all passages together; 0: no limit.
        order: How passages enter the prompt: `relevance`, or `reuse`: always alike, so that equal
            sets are equal prompts, whose prefix the engine has computed exactly.
        min_containment: As of `TopKSelector`: share of word shingles at which a hit is folded
            into a better one, in (0, 1]; None folds nothing.
    """

    cost: Callable[[Hit], int]
    price: Callable[[Sequence[Hit]], Sequence[float]]
    budget_ms: float = 0.0
    order: _Order = "relevance"
    min_containment: float | None = 0.9

    def __post_init__(self) -> None:
        if self.budget_ms < 0:
            raise ConfigError(f"`budget_ms` must be at least 0, got {self.budget_ms!r}.")
        if self.order not in get_args(_Order):
            raise ConfigError(f"`order` must be relevance or reuse, got {self.order!r}.")
        check_containment(self.min_containment)

    def select(self, query: Query, hits: Sequence[Hit], budget: Budget) -> list[Hit]:
        """See `Selector.select`."""
        if self.min_containment is not None:
            hits = fold_duplicates(hits, min_containment=self.min_containment)
        prices = self.price(hits) if self.budget_ms else [0.0] * len(hits)
        items = [
            _Item(i, 1 / (1 + i), self.cost(hit), ms)
            for i, (hit, ms) in enumerate(zip(hits, prices, strict=True))
        ]
        limit = _Limit(budget.tokens, budget.passages, self.budget_ms or float("inf"))
        chosen = [hits[i] for i in sorted(item.place for item in _best(items, limit))]
        if self.order == "reuse":
            chosen.sort(key=lambda hit: (hit.document, hit.chunk.span.start, hit.chunk.id))
        return chosen


class _Item(NamedTuple):
    """A hit by its rank, with what it gives and takes."""

    place: int
    gain: float
    tokens: int
    ms: float


class _Limit(NamedTuple):
    tokens: int
    passages: int
    ms: float

    def admits(self, items: Sequence[_Item]) -> bool:
        """Whether all of these fit."""
        return (
            len(items) <= self.passages
            and sum(item.tokens for item in items) <= self.tokens
            and sum(item.ms for item in items) <= self.ms
        )

    def share(self, item: _Item) -> float:
        """What an item takes of the budgets, as shares that are added."""
        shares = (item.tokens / self.tokens if self.tokens else 0.0, item.ms / self.ms)
        return max(sum(shares), 1e-9)


def _best(items: Sequence[_Item], limit: _Limit) -> list[_Item]:
    """The better of two greedy sets, improved by swaps."""
    by_worth = sorted(items, key=lambda item: -item.gain / limit.share(item))
    sets = [_filled(items, limit), _filled(by_worth, limit)]
    return _swapped(max(sets, key=_gain), items, limit)


def _filled(items: Iterable[_Item], limit: _Limit) -> list[_Item]:
    chosen: list[_Item] = []
    for item in items:
        if limit.admits([*chosen, item]):
            chosen.append(item)
    return chosen


def _swapped(chosen: list[_Item], items: Sequence[_Item], limit: _Limit) -> list[_Item]:
    """Exchange one for a better one as long as one fits; each time the sum grows."""
    while True:
        better = next(
            (
                [*(other for other in chosen if other is not old), new]
                for new in items
                for old in chosen
                if new not in chosen
                and new.gain > old.gain
                and limit.admits([*(other for other in chosen if other is not old), new])
            ),
            None,
        )
        if better is None:
            return chosen
        chosen = better


def _gain(items: Iterable[_Item]) -> float:
    return sum(item.gain for item in items)
