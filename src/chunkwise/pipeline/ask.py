"""From a question to a cited answer: retrieve, rerank, fold, select, answer."""

from __future__ import annotations

import bisect
import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from chunkwise.pipeline.parts import Parts
from chunkwise.rag.selection.duplicates import fold_duplicates
from chunkwise.types import Answer, Budget, Citation, Hit, Query

if TYPE_CHECKING:
    from chunkwise.store import Store


class Ask:
    """Answers questions over one store with the algorithms of `parts`."""

    def __init__(self, store: Store, parts: Parts) -> None:
        self.store, self.parts = store, parts
        self.retriever = parts.retriever(store)

    def search(self, query: Query, k: int) -> list[Hit]:
        """At most `k` hits, best first; near-duplicates are folded into the better one."""
        return self._search(query, k, {})

    def stream(
        self, query: Query, history: Sequence[tuple[str, str]] = ()
    ) -> Iterator[str | Answer]:
        """Pieces of the answer, and last the `Answer` with the time of each stage."""
        timings: dict[str, float] = {}
        started = time.perf_counter()
        hits = self._search(query, self.parts.settings.candidates, timings)
        passages = self._select(query, hits, timings)
        answering = time.perf_counter()
        for piece in self.parts.answerer(history).stream(query, passages):
            if isinstance(piece, Answer):
                timings["answer"] = _ms(answering)
                timings["total"] = _ms(started)
                piece = self._finished(piece, {**timings, **piece.timings_ms}, len(passages))
            yield piece

    def _finished(self, answer: Answer, timings: dict[str, float], passages: int) -> Answer:
        usage = {**answer.usage, "passages": passages}
        citations = tuple(self._with_page(citation) for citation in answer.citations)
        return dataclasses.replace(answer, citations=citations, usage=usage, timings_ms=timings)

    def _with_page(self, citation: Citation) -> Citation:
        """The citation with its page; a chunk over several pages does not know which it is."""
        if citation.page is not None:
            return citation
        pages = self.store.load(citation.document).pages
        starts = [span.start for span in pages]
        page = bisect.bisect_right(starts, citation.start)
        return dataclasses.replace(citation, page=page) if page else citation

    def _search(self, query: Query, k: int, timings: dict[str, float]) -> list[Hit]:
        settings, started = self.parts.settings, time.perf_counter()
        hits = self.retriever.search(query, max(k, settings.candidates))
        timings["retrieve"] = _ms(started)
        if (reranker := self.parts.reranker) is not None:
            started = time.perf_counter()
            hits = reranker.rerank(query, hits)
            timings["rerank"] = _ms(started)
        return fold_duplicates(hits)[:k]

    def _select(self, query: Query, hits: list[Hit], timings: dict[str, float]) -> list[Hit]:
        started, settings = time.perf_counter(), self.parts.settings
        budget = Budget(settings.budget_tokens, settings.passages)
        chosen = self.parts.selector.select(query, hits, budget)
        timings["select"] = _ms(started)
        return chosen


def _ms(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 2)
