"""`ExtractiveAnswerer`: verbatim, with exact places; found or not found."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import ConfigError
from chunkwise.rag.answering import answerers
from chunkwise.rag.answering.base import NOT_FOUND_TEXT
from chunkwise.rag.answering.extractive import ExtractiveAnswerer
from chunkwise.types import Answer, Hit, Query
from tests.fakes import HashingEmbedder, SimpleSegmenter, make_hit

GUIDE = (
    "Aurora Lodge stands above the lake of Tarn. "
    "It was built in 1931 by the architect Ilse Brandt. "
    "The lodge has 24 rooms and two saunas. Breakfast is served from seven to ten."
)
BOATS = "Boats can be hired at the pier. A rowing boat costs 12 euros an hour in summer."
TREES = "Larch and spruce cover the slopes. In autumn the larches turn yellow."
HITS = [
    make_hit(GUIDE, document="guide.txt", start=500, pages=(2, 2)),
    make_hit(BOATS, document="boats.txt", pages=(1, 2)),
    make_hit(TREES, document="trees.txt"),
]


def ask(question: str, hits: list[Hit] = HITS, **options: object) -> Answer:
    answerer = ExtractiveAnswerer(SimpleSegmenter(), **options)  # type: ignore[arg-type]
    *_, answer = answerer.stream(Query(question), hits)
    assert isinstance(answer, Answer)
    return answer


def check_verbatim(answer: Answer, hits: list[Hit]) -> None:
    for cited in answer.citations:
        assert any(
            cited.document == hit.document
            and hit.chunk.span.start <= cited.start <= cited.end <= hit.chunk.span.end
            and hit.chunk.text[
                cited.start - hit.chunk.span.start : cited.end - hit.chunk.span.start
            ]
            == cited.text
            for hit in hits
        )
    rest = answer.text
    for cited in answer.citations:
        assert cited.text in rest
        rest = rest.replace(cited.text, "", 1)
    for hit in hits:
        rest = rest.replace(hit.chunk.header.strip("\r\n") or "\0", "")
    assert not rest.strip()


@pytest.mark.parametrize("embedder", [None, HashingEmbedder(dim=256, is_weak=False)])
def test_the_sentence_with_the_answer_is_quoted_with_its_place(
    embedder: HashingEmbedder | None,
) -> None:
    answer = ask("How much does a rowing boat cost?", embedder=embedder)
    assert answer.found
    assert "12 euros" in answer.text
    best = answer.citations[0]
    assert best.document == "boats.txt"
    assert BOATS[best.start : best.end] == best.text
    assert best.page is None  # the chunk stands on two pages: which one is not known
    assert answer.fidelity == {"kind": "verbatim"}
    check_verbatim(answer, HITS)


def test_a_sentence_that_refers_back_brings_the_one_before() -> None:
    answer = ask("When was the lodge built by the architect Ilse Brandt?", max_sentences=2)
    assert answer.text == GUIDE[: GUIDE.index(" The lodge has")]
    (cited,) = answer.citations
    assert (cited.start, cited.page, cited.version) == (500, 2, 1)


def test_a_question_about_something_else_is_not_found() -> None:
    answer = ask("Which enzyme splits lactose in the small intestine?")
    assert not answer.found
    assert answer.text == NOT_FOUND_TEXT
    assert answer.citations == ()
    assert answer.confidence is not None
    assert answer.confidence < ask("How much does a rowing boat cost?").confidence


def test_no_hits_or_only_headings_are_not_found() -> None:
    assert not ask("What?", []).found
    assert not ask("What about fees?", [make_hit("# Fees", headings=("Fees",))]).found


def test_a_weak_embedder_is_left_out() -> None:
    question = "How much does a rowing boat cost?"
    assert ask(question, embedder=HashingEmbedder()) == ask(question)


TABLE = """\
| Tariff | Price | Term |
|---|---|---|
| Basic | 9 euros | 1 month |
| Gold | 31 euros | 1 year |"""


def test_a_table_answers_with_its_row_under_its_header() -> None:
    hits = [make_hit(f"Our tariffs:\n\n{TABLE}\n\nAll prices are net."), HITS[1]]
    answer = ask("What is the price of the Gold tariff?", hits, threshold=0.0, max_sentences=1)
    rows = TABLE.split("\n")
    assert answer.text == "\n".join([rows[0], rows[1], rows[3]])
    assert [cited.text for cited in answer.citations] == [f"{rows[0]}\n{rows[1]}", rows[3]]
    check_verbatim(answer, hits)


def test_a_continued_table_shows_the_header_of_the_earlier_chunk() -> None:
    head, rows = TABLE.split("\n")[:2], TABLE.split("\n")[2:]
    hits = [make_hit("\n".join(rows), header="\n".join(head) + "\n"), HITS[2]]
    answer = ask("What is the price of the Gold tariff?", hits, threshold=0.0, max_sentences=1)
    assert answer.text == "\n".join([*head, rows[1]])
    assert [cited.text for cited in answer.citations] == [rows[1]]


def test_overlapping_chunks_give_a_sentence_once() -> None:
    first = make_hit(BOATS, document="boats.txt")
    second = make_hit(BOATS[10:], document="boats.txt", start=10)
    answer = ask("How much does a rowing boat cost?", [first, second], threshold=0.0)
    assert answer.text.count("12 euros") == 1


@pytest.mark.parametrize(
    ("option", "value"), [("max_sentences", 0), ("threshold", 1.5), ("max_gap", -1)]
)
def test_wrong_options_are_errors(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=option):
        answerers.build({"name": "extractive", option: value}, segmenter=SimpleSegmenter())


TEXTS = st.text(st.sampled_from("ab he.?!\n|\t\u2028é漢。#1-"), max_size=60) | st.sampled_from(
    [GUIDE, BOATS, TABLE, f"{BOATS}\n{TABLE}", "|a|b|\r\n|-|-|\r\n|c|d|"]
)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(TEXTS, st.sampled_from(["", "|x|y|\n"]), st.integers(0, 99)), max_size=4),
    st.text(max_size=20) | st.just("How much does a boat cost?"),
    st.integers(1, 4),
    st.booleans(),
)
def test_every_answer_is_verbatim(
    parts: list[tuple[str, str, int]], question: str, max_sentences: int, has_embedder: bool
) -> None:
    hits = [
        make_hit(text, header=header, start=start, document=str(i))
        for i, (text, header, start) in enumerate(parts)
    ]
    embedder = HashingEmbedder(dim=256, is_weak=False) if has_embedder else None
    answer = ask(question, hits, embedder=embedder, threshold=0.0, max_sentences=max_sentences)
    assert 0.0 <= (answer.confidence or 0.0) <= 1.0
    if answer.found:
        assert answer.citations
        check_verbatim(answer, hits)
        assert 1 <= answer.usage["sentences"] <= max_sentences
