"""From a question to a cited answer: retrieve, rerank, fold, select, answer."""

from __future__ import annotations

import bisect
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from chunkwise.pipeline.parts import Parts
from chunkwise.rag.selection.duplicates import fold_duplicates
from chunkwise.registry import spec_name
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

    def passages(self, query: Query) -> list[Hit]:
        """The hits that `stream` would answer from."""
        hits = self._search(query, self.parts.settings.candidates, {})
        return self._select(query, hits, {})

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
                citations = self._with_pages(piece.citations, passages)
                timings["total"] = _ms(started)
                yield dataclasses.replace(
                    piece,
                    citations=citations,
                    fidelity={**piece.fidelity, **self._reuse(piece.usage)},
                    usage={**piece.usage, "passages": len(passages)},
                    timings_ms={**piece.timings_ms, **timings},
                )
            else:
                yield piece

    def _reuse(self, usage: Mapping[str, int]) -> dict[str, str]:
        """How a prompt over reused chunks was made, for people."""
        if not (reused := usage.get("reused_tokens", 0)):
            return {}
        reusing, again = self.parts.reusing, usage["recomputed_tokens"]
        assert reusing is not None, "a local model was asked"
        assert reusing.policy is not None, "it has reused chunks"
        share = again / max(reused + again, 1)
        return {
            "reuse": f"{spec_name(reusing.policy)}: {usage['reused_chunks']} passages read apart, "
            f"{share:.0%} of their tokens computed afresh; {reused} tokens, about "
            f"{usage['saved_ms']} ms, not computed in this prompt"
        }

    def _with_pages(
        self, citations: Sequence[Citation], passages: Sequence[Hit]
    ) -> tuple[Citation, ...]:
        """The citations with their pages; a chunk over several pages does not know which it is.

        Without a page stay citations of formats that have none, and of documents that were
        changed or removed since they were found.
        """
        paged = {hit.document for hit in passages if hit.chunk.pages}
        starts: dict[str, list[int]] = {}
        found = []
        with self.store.snapshot():
            for citation in citations:
                name = citation.document
                if citation.page is None and name in paged:
                    if name not in starts:
                        starts[name] = self._page_starts(name, citation.version)
                    page = bisect.bisect_right(starts[name], citation.start)
                    citation = dataclasses.replace(citation, page=page or None)
                found.append(citation)
        return tuple(found)

    def _page_starts(self, name: str, version: int) -> list[int]:
        info = self.store.info(name)
        if info is None or info.version != version:
            return []
        return [span.start for span in self.store.load(name).pages]

    def _search(self, query: Query, k: int, timings: dict[str, float]) -> list[Hit]:
        settings, started = self.parts.settings, time.perf_counter()
        # More than asked for: near-duplicates are folded, and rerankers want a choice.
        hits = self.retriever.search(query, max(2 * k, settings.candidates))
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
