"""BM25 equals an independent implementation; questions are never syntax."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from chunkwise.errors import ConfigError
from chunkwise.rag.retrieval.bm25 import BM25Retriever
from chunkwise.store import Store
from chunkwise.types import Filter, Query
from tests.store.corpora import create, prepared

WORDS = [f"w{n}x" for n in range(300)]


def texts(number: int, seed: int = 0, *, skew: float = 1.0) -> list[str]:
    """Texts of words with a long tail, so that some words are in most of them."""
    rng = random.Random(seed)
    weights = [1 / (rank + 1) ** skew for rank in range(len(WORDS))]
    lines = (" ".join(rng.choices(WORDS, weights, k=rng.randint(3, 30))) for _ in range(number))
    return list(dict.fromkeys(lines))


class Oracle(BM25Okapi):  # type: ignore[misc]
    """rank_bm25 with the constants of FTS5: k1 = 1.2, b = 0.75, idf at least 1e-6."""

    def __init__(self, corpus: list[str]) -> None:
        super().__init__([text.split() for text in corpus], k1=1.2, b=0.75)

    def _calc_idf(self, nd: dict[str, int]) -> None:
        import math

        for word, count in nd.items():
            idf = math.log((self.corpus_size - count + 0.5) / (count + 0.5))
            self.idf[word] = max(idf, 1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_scores_equal_rank_bm25(tmp_path: Path, seed: int) -> None:
    lines = texts(400, seed, skew=1.3)
    oracle = Oracle(lines)
    rng = random.Random(seed)
    with create(tmp_path, *(prepared(f"{n}", lines[n::5]) for n in range(5))) as store:
        retriever = BM25Retriever(store)
        for k in (1, 7, 60):
            question = rng.sample(WORDS, rng.randint(1, 9))
            scores = dict(zip(lines, oracle.get_scores(question), strict=True))
            found = retriever.search(Query(" ".join(question)), k)
            best = sorted(scores.values(), reverse=True)[: len(found)]
            assert [hit.score for hit in found] == pytest.approx(best, abs=1e-4)
            for hit in found:
                assert hit.score == pytest.approx(scores[hit.chunk.text], abs=1e-4)
            telling = sum(score > 1e-4 for score in scores.values())
            assert len(found) >= min(k, telling)


def test_leaving_out_common_words_as_candidates_is_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import chunkwise.rag.retrieval.bm25 as module

    lines = texts(1500, 3)
    rng = random.Random(4)
    with create(tmp_path, prepared("a", lines)) as store:
        retriever = BM25Retriever(store)
        for _ in range(60):
            query = Query(" ".join(rng.sample(WORDS[:120], rng.randint(2, 8))))
            monkeypatch.setattr(module, "_RARE_MATCHES", 10**9)
            plain = retriever.search(query, 5)
            monkeypatch.setattr(module, "_RARE_MATCHES", 0)
            pruned = retriever.search(query, 5)
            assert [h.chunk.id for h in pruned] == [h.chunk.id for h in plain]
            assert [h.score for h in pruned] == pytest.approx([h.score for h in plain])


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Store:
    lines = ["The quick brown fox", "col: value NEAR the fence", "AND OR NOT", "to be or not to be"]
    return create(tmp_path_factory.mktemp("c"), prepared("a", lines), prepared("b", lines[:1]))


@pytest.mark.parametrize(
    "text",
    ['"', "*", "fox*", "NEAR(", "NEAR(quick fox, 2)", "-fox", "col:", "text:fox", "{text}:fox", "(",
     ")", "fox AND", "OR", "NOT", "^fox", "fox + quick", "''", "\\", ";--", "\x00", "fox\x00", "😀",
     "", "   ", '"""', "a" * 5000, "?" * 3000, "%", "_", "fox_quick"],
)  # fmt: skip
def test_a_question_is_never_syntax(notes: Store, text: str) -> None:
    BM25Retriever(notes).search(Query(text), 3)


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=60))
def test_any_question_is_answered(notes: Store, text: str) -> None:
    BM25Retriever(notes).search(Query(text), 3)


def test_operators_are_words(notes: Store) -> None:
    search = BM25Retriever(notes).search
    assert search(Query("NEAR"), 3)[0].chunk.text.startswith("col: value")
    assert search(Query("-fox"), 3)[0].chunk.text == "The quick brown fox"
    assert search(Query("AND"), 3)[0].chunk.text == "AND OR NOT"


def test_stop_words_count_when_nothing_else_is_asked(notes: Store) -> None:
    search = BM25Retriever(notes).search
    assert search(Query("to be or not to be"), 1)[0].chunk.text == "to be or not to be"
    assert search(Query("what is the fence?"), 1)[0].chunk.text.startswith("col: value")


def test_a_long_question_uses_its_rarest_words(tmp_path: Path) -> None:
    lines = texts(300, 5)
    rarest = "singular finding"
    with create(tmp_path, prepared("a", [*lines, rarest])) as store:
        question = " ".join([*WORDS, "singular"])
        assert BM25Retriever(store, max_terms=3).search(Query(question), 1)[0].chunk.text == rarest
    with pytest.raises(ConfigError, match="max_terms"):
        BM25Retriever(store, max_terms=0)


def test_a_filter_that_keeps_one_of_many_documents_starves_nothing(tmp_path: Path) -> None:
    many = [prepared(f"d{n}", [f"ferry number {n}", f"ferry again {n}"]) for n in range(300)]
    few = prepared("keep/one", [f"ferry of the one {n}" for n in range(12)])
    with create(tmp_path, *many, few) as store:
        found = BM25Retriever(store).search(Query("ferry", Filter(paths=("keep/*",))), 10)
        assert [hit.document for hit in found] == ["keep/one"] * 10
        assert BM25Retriever(store).search(Query("ferry", Filter(paths=("none",))), 10) == []


def test_copies_outside_the_filter_are_not_shown(notes: Store) -> None:
    search = BM25Retriever(notes).search
    (hit,) = search(Query("quick", Filter(paths=("b",))), 5)
    assert (hit.document, hit.copies) == ("b", ())
    (hit,) = search(Query("quick"), 5)
    assert (hit.document, [name for name, _ in hit.copies]) == ("a", ["b"])
