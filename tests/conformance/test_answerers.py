"""Every answerer: text pieces, then one answer whose citations are verbatim."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.prompting import answer_prompt
from chunkwise.rag.answering import answerers
from chunkwise.rag.answering.reading import SpanReader
from chunkwise.types import Answer, Query
from tests.fakes import HashingEmbedder, ScriptedModel, SimpleSegmenter, make_hit
from tests.rag.answering.readers import make_reader

TEXTS = st.text(max_size=60) | st.sampled_from(
    ["The rent is 500 euros.\r\n\r\nPets: no 🐈.", "e\u0301tage | 2\nrue | 3", "[1] NOT_FOUND"]
)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> SpanReader:
    return make_reader(tmp_path_factory.mktemp("reader"))


@pytest.mark.parametrize("name", answerers.own)
@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(TEXTS, st.integers(0, 50)), max_size=4), TEXTS)
def test_pieces_come_before_one_answer_with_verbatim_citations(
    name: str, reader: SpanReader, parts: list[tuple[str, int]], question: str
) -> None:
    hits = [make_hit(text, start=at, document=str(i)) for i, (text, at) in enumerate(parts)]
    answerer = answerers.build(
        name,
        segmenter=SimpleSegmenter(),
        embedder=HashingEmbedder(dim=256, is_weak=False),
        model=ScriptedModel(["The rent is 500", " euros [1]."]),
        build_prompt=answer_prompt,
        reader=reader,
    )
    *pieces, answer = answerer.stream(Query(question), hits)
    assert isinstance(answer, Answer)
    assert all(isinstance(piece, str) for piece in pieces)
    assert answer.text
    assert answer.confidence is None or 0 <= answer.confidence <= 1
    assert answer.fidelity["kind"] in ("verbatim", "generated")
    assert answer.found or not answer.citations
    by_name = {hit.document: hit for hit in hits}
    for cited in answer.citations:
        chunk = by_name[cited.document].chunk
        first = chunk.span.start
        assert chunk.text[cited.start - first : cited.end - first] == cited.text
        assert cited.text
