"""Relevance less redundancy: each next passage is judged by what the chosen ones do not say yet.

Source: Carbonell and Goldstein, The use of MMR, diversity-based reranking (SIGIR 1998), eq. 1.
Differs: relevance is the rank of a hit, 1 / (1 + rank): scores of fused or reranked lists have no
    common scale. Similarity is the cosine of word counts weighted by rarity among the hits, so
    no embedder is needed. The budget is hard; near-duplicates are folded first.
Exact when: `diversity=0`: then it equals `top_k`.
Cost: O(n^2) sparse dot products over n hits.
Helps or hurts: not measured on answers yet; meant for questions whose answer has several parts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from chunkwise.errors import ConfigError
from chunkwise.rag.selection.base import within_budget
from chunkwise.rag.selection.duplicates import check_containment, fold_duplicates
from chunkwise.types import Budget, Hit, Query

__all__ = ["MMRSelector"]


@dataclass(frozen=True, slots=True)
class MMRSelector:
    """Maximal marginal relevance under a token budget.

    Attributes:
        cost: Tokens of a passage as it is sent, context included
            (`chunkwise.prompting.passage_cost`).
        diversity: Weight of redundancy against relevance, in [0, 1]; 0 is best first.
        min_containment: As of `TopKSelector`: share of word shingles at which a hit is folded
            into a better one, in (0, 1]; None folds nothing.
    """

    cost: Callable[[Hit], int]
    diversity: float = 0.3
    min_containment: float | None = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.diversity <= 1:
            raise ConfigError(f"`diversity` must be in [0, 1], got {self.diversity!r}.")
        check_containment(self.min_containment)

    def select(self, query: Query, hits: Sequence[Hit], budget: Budget) -> list[Hit]:
        """See `Selector.select`; the order is that of choice."""
        if self.min_containment is not None:
            hits = fold_duplicates(hits, min_containment=self.min_containment)
        return within_budget(self._in_turn(hits), budget, cost=self.cost)

    def _in_turn(self, hits: Sequence[Hit]) -> Iterator[Hit]:
        """All hits, each the best given those before it."""
        vectors = _vectors([hit.chunk.text for hit in hits])
        left = list(range(len(hits)))
        redundancy = [0.0] * len(hits)
        while left:
            best = max(left, key=lambda i: (self._worth(i, redundancy[i]), -i))
            left.remove(best)
            for i in left:
                redundancy[i] = max(redundancy[i], _dot(vectors[i], vectors[best]))
            yield hits[best]

    def _worth(self, rank: int, redundancy: float) -> float:
        return (1 - self.diversity) / (1 + rank) - self.diversity * redundancy


def _vectors(texts: Sequence[str]) -> list[dict[str, float]]:
    """Unit vectors of word counts times inverse document frequency."""
    counts = [Counter(re.findall(r"\w+", text.casefold())) for text in texts]
    spread = Counter(word for count in counts for word in count)
    weighted = [
        {word: n * math.log1p(len(texts) / spread[word]) for word, n in count.items()}
        for count in counts
    ]
    norms = [math.sqrt(_dot(vector, vector)) or 1.0 for vector in weighted]
    return [
        {word: value / norm for word, value in vector.items()}
        for vector, norm in zip(weighted, norms, strict=True)
    ]


def _dot(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    if len(a) > len(b):
        a, b = b, a
    return sum(value * b[word] for word, value in a.items() if word in b)
