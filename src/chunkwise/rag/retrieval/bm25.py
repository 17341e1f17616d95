"""BM25 over the store's word index.

Source: Robertson and Zaragoza, The Probabilistic Relevance Framework (2009), as SQLite's FTS5 has
it: k1 = 1.2, b = 0.75, idf `ln((N - n + 0.5) / (n + 0.5))`, at least 1e-6. Leaving out what cannot
reach the top is MaxScore (Turtle and Flood, 1995).
Differs: stop words are left out while other words remain. Of a long question the rarest words are
used.
Exact when: always, for the words that are used.
Cost: some 1.2 µs for each text that has one of the rare words, 0.1 µs for one with a common word.
Helps or hurts: finds names, numbers and rare words that vectors blur; misses synonyms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from chunkwise.errors import ConfigError
from chunkwise.rag._stopwords import STOPWORDS
from chunkwise.rag.retrieval.base import ChunkSource
from chunkwise.types import Hit, Query

__all__ = ["BM25Retriever"]

_K1 = 1.2
_RARE_MATCHES = 2000  # words in at most this many texts always choose candidates
_FEW_DOCUMENTS = 200  # a filter that keeps no more leaves little to score
_SPARE = 32  # hits taken beyond `k`, so that ties are cut by content id


@dataclass(frozen=True)
class BM25Retriever:
    """Ranks texts by the words they share with the question.

    Attributes:
        store: Where to search.
        max_terms: Most words of a question that are looked up, the rarest ones.
    """

    store: ChunkSource
    max_terms: int = 32

    def __post_init__(self) -> None:
        if self.max_terms < 1:
            raise ConfigError(f"`max_terms` must be at least 1, got {self.max_terms!r}.")

    def search(self, query: Query, k: int) -> list[Hit]:
        """At most `k` hits, best first, one a content; the filter is applied before ranking."""
        return self.store.read(lambda: self._search(query, k))

    def _search(self, query: Query, k: int) -> list[Hit]:
        documents = self.store.allowed(query.filter)
        counts = self._counts(query.text)
        if not counts or k < 1:
            return []
        found = self._matches(counts, k + _SPARE, documents)
        # Rounded: the last bits depend on the order in which a score was added up.
        scores = {content: round(score, 9) for content, score in found}
        return self.store.hits(scores, "bm25", documents)[:k]

    def _counts(self, text: str) -> dict[str, int]:
        """Expressions to look up, rarest first, with how many texts match each."""
        terms = self.store.terms(text)
        rest = [term for term in terms if term[0] not in STOPWORDS]
        counts = {e: self.store.match_count(e) for e in map(_expression, rest or terms)}
        found = sorted((count, e) for e, count in counts.items() if count)
        return {e: count for count, e in found[: self.max_terms]}

    def _matches(
        self, counts: dict[str, int], limit: int, documents: Sequence[int] | None
    ) -> list[tuple[int, float]]:
        """The best contents. Common words choose no candidates where they cannot win."""
        names = list(counts)
        num_rare = max(1, sum(count <= _RARE_MATCHES for count in counts.values()))
        is_small = documents is not None and len(documents) <= _FEW_DOCUMENTS
        while num_rare < len(names) and not is_small:
            found = self._candidates(names[:num_rare], names[num_rare:], limit, documents)
            if len(found) < limit:
                break  # too few texts have a rare word
            kth = found[-1 - _SPARE][1]  # the final one is no lower
            needed = num_rare
            while needed < len(names) and self._most(names[needed:], counts) >= kth:
                needed += 1
            if needed == num_rare:
                return found
            num_rare = needed
        return self.store.match(" OR ".join(names), limit, documents)

    def _candidates(
        self, rare: list[str], common: list[str], limit: int, documents: Sequence[int] | None
    ) -> list[tuple[int, float]]:
        """The best contents that have a rare word, with the scores that all words give them."""
        # Every word twice, so that scores are doubled evenly.
        either = " OR ".join([*rare, *common, *common])
        found = self.store.match(f"({' OR '.join(rare)}) AND ({either})", limit, documents)
        return [(content, score / 2) for content, score in found]

    def _most(self, names: list[str], counts: dict[str, int]) -> float:
        """A score that no text reaches by these words alone."""
        return sum(self._idf(counts[name]) for name in names) * (_K1 + 1)

    def _idf(self, count: int) -> float:
        total = self.store.num_contents()
        return max(math.log((total - count + 0.5) / (count + 0.5)), 1e-6)


def _expression(term: tuple[str, bool]) -> str:
    """A word as an expression of FTS5: always quoted, so never syntax."""
    text, is_prefix = term
    quoted = '"' + text.replace('"', '""') + '"'
    return f"{quoted} *" if is_prefix else quoted
