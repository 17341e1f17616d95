"""`span_grounding` from search to cited answers, with the packaged model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import chunkwise
from chunkwise.errors import ConfigError, MissingDependencyError
from chunkwise.pipeline import parts as parts_module
from chunkwise.pipeline.recutting import StoreCut

BASE: dict[str, Any] = {"embedder": "hashing", "counter": "words", "answerer": "extractive"}
GROUND = {"name": "span_grounding", "hits": 4}
TEXT = (
    "# Harbour\n\nThe gate opens at nine and closes at ten. Dogs wait outside. The master decides "
    "alone whether the ship sails.\n\nThe battery cost 1,200 euros in March. It holds forty "
    "kilowatt-hours. The pump was mended in May by the crew of the other ship.\n"
)
QUESTIONS = [
    "When does the gate open?",
    "What did the battery cost?",
    "Who decides whether the ship sails?",
    "Where do dogs wait?",
    "Who mended the pump of the ship?",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chunkwise.Corpus]:
    folder = tmp_path_factory.mktemp("grounding")
    (folder / "notes.md").write_text(TEXT)
    with chunkwise.open(folder / "corpus", **BASE, retriever=GROUND, size=60) as opened:
        opened.add(folder / "notes.md")
        yield opened


def test_a_search_gives_whole_sentences(corpus: chunkwise.Corpus) -> None:
    for question in QUESTIONS:
        hits = corpus.search(question, 3)
        assert hits
        for hit in hits:
            text = corpus.document(hit.document).text
            assert text[slice(*hit.chunk.span)] == hit.chunk.text
            assert hit.chunk.tokens == corpus.parts.counter.count(hit.chunk.text)
            assert {"span", "bm25"} <= set(hit.scores)


def test_evidence_stands_below_its_own_headings(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Harbour\n\nIt is old.\n\n# Gate\n\nIt opens at nine.\n")
    options = {**BASE, "size": 60, "chunker": "fixed", "retriever": {**GROUND, "spans": 20}}
    with chunkwise.open(tmp_path / "corpus", **options) as opened:
        opened.add(tmp_path / "a.md")
        found = {hit.chunk.text: hit for hit in opened.search("When does the gate open?", 9)}
        assert found["It is old."].chunk.headings == ("Harbour",)
        hit = found["It opens at nine."]
        assert hit.chunk.headings == ("Gate",)
        cut = StoreCut(opened.store, opened.parts.counter, 60)
        assert cut(hit.document, hit.version, [hit.chunk.span]) == [hit.chunk]
        assert cut(hit.document, hit.version + 1, [hit.chunk.span]) is None
        assert cut("b.md", 1, [hit.chunk.span]) is None


def test_a_document_is_read_once_for_all_questions(corpus: chunkwise.Corpus) -> None:
    llm: Any = corpus.parts.foreseer

    def rows(question: str) -> int:
        before = llm.engine.num_rows
        corpus.search(question, 3)
        return int(llm.engine.num_rows - before)

    cold = []
    for question in QUESTIONS:
        llm.forget_prefixes()
        cold.append(rows(question))
    llm.forget_prefixes()
    rows("gate battery ship dogs pump")
    length = len(llm.tokenizer.encode(TEXT))
    assert all(before - rows(q) >= length for before, q in zip(cold, QUESTIONS, strict=True))


def test_citations_stand_where_they_say(corpus: chunkwise.Corpus) -> None:
    found = [corpus.ask(question) for question in QUESTIONS]
    assert sum(answer.found for answer in found) >= 2
    for answer in found:
        for citation in answer.citations:
            text = corpus.document(citation.document).text
            assert text[citation.start : citation.end] == citation.text


def test_a_base_that_is_none_is_named(corpus: chunkwise.Corpus) -> None:
    again = chunkwise.open(corpus.folder, **BASE, retriever={**GROUND, "base": "bm26"})
    with again, pytest.raises(ConfigError, match="bm26"):
        again.search("gate")


def test_without_a_language_model_it_is_said(
    corpus: chunkwise.Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts_module, "packaged_folder", lambda name: None)
    again = chunkwise.open(corpus.folder, **BASE, retriever=GROUND)
    with again, pytest.raises(ConfigError, match=r"`model`.*retriever"):
        again.search("gate")

    def missing() -> None:
        raise MissingDependencyError("pip install 'chunkwise[llm]'")

    monkeypatch.setattr(parts_module.config, "require_llm", missing)
    again = chunkwise.open(corpus.folder, **BASE, retriever=GROUND)
    with again, pytest.raises(MissingDependencyError, match="llm"):
        again.search("gate")
