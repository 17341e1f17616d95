"""`GenerativeAnswerer` with a scripted model: labels are resolved, checked, counted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import ConfigError
from chunkwise.prompting import answer_prompt
from chunkwise.rag.answering.base import NOT_FOUND_TEXT
from chunkwise.rag.answering.generative import GenerativeAnswerer
from chunkwise.types import Answer, Query
from tests.fakes import ScriptedModel, SimpleSegmenter, make_hit

RENT = "Payments are monthly. The rent is 500 euros a month. Heating costs extra."
PETS = "Dogs and cats need consent. The landlord decides within 14 days. Fish are free."
MAYA = "Maya Ortiz wrote the contract. She signed it in Lisbon."
HITS = [
    make_hit(RENT, document="rent.txt", start=100),
    make_hit(PETS, document="pets.txt", start=40),
    make_hit(MAYA, document="maya.txt"),
]


def run(*pieces: str, question: str = "What is the rule?") -> tuple[list[str], Answer]:
    model = ScriptedModel(pieces)
    answerer = GenerativeAnswerer(model, SimpleSegmenter(), answer_prompt)
    *streamed, answer = answerer.stream(Query(question), HITS)
    assert isinstance(answer, Answer)
    return [piece for piece in streamed if isinstance(piece, str)], answer


def cited(answer: Answer) -> list[tuple[str, str]]:
    for found in answer.citations:
        hit = next(hit for hit in HITS if hit.document == found.document)
        first = hit.chunk.span.start
        assert hit.chunk.text[found.start - first : found.end - first] == found.text
    return [(found.document, found.text) for found in answer.citations]


def test_a_right_label_cites_the_sentence_and_not_the_chunk() -> None:
    streamed, answer = run("The rent is 500 euros ", "per month [1].")
    assert streamed == ["The rent is 500 euros ", "per month [1]."]
    assert cited(answer) == [("rent.txt", "The rent is 500 euros a month.")]
    assert (answer.citations[0].start, answer.citations[0].end) == (122, 152)
    assert answer.text == "The rent is 500 euros per month [1]."
    assert answer.found
    assert answer.confidence == 1.0
    assert answer.fidelity["kind"] == "generated"
    assert answer.fidelity["citations"] == "labelled"
    assert answer.usage["completion_tokens"] == 2


def test_a_label_of_the_wrong_passage_is_dropped_and_counted() -> None:
    _, answer = run("The rent is 500 euros a month [2].")
    assert answer.citations == ()
    assert answer.usage["dropped_citations"] == 1
    assert answer.text == "The rent is 500 euros a month."
    assert answer.confidence == 0.0


def test_a_label_of_no_passage_is_counted() -> None:
    _, answer = run("The rent is 500 euros a month [1][7] or so [0].")
    assert cited(answer) == [("rent.txt", "The rent is 500 euros a month.")]
    assert answer.usage["unknown_labels"] == 2


@pytest.mark.parametrize(
    "statement",
    [
        "The rent is 550 euros a month [1].",
        "The rent is 5,000 euros a month [1].",
        "The rent that Paul Smith pays is 500 euros a month [1].",
        "Subletting is forbidden without written consent of all neighbours [1].",
    ],
)
def test_a_wrong_number_an_invented_name_or_other_content_is_dropped(statement: str) -> None:
    _, answer = run(statement)
    assert (answer.citations, answer.usage["dropped_citations"]) == ((), 1)


@pytest.mark.parametrize(
    "label", ["[1]", "[1, 2]", "[1][2]", "［１］", "【1】", "[Passage 1]", "[1-2]", "【1†source】"]
)
def test_label_forms(label: str) -> None:
    _, answer = run(f"The rent is 500 euros a month {label}.")
    assert cited(answer) == [("rent.txt", "The rent is 500 euros a month.")]
    assert answer.text == "The rent is 500 euros a month [1]."


def test_labels_after_the_full_stop_belong_to_the_sentence_before() -> None:
    _, answer = run("The rent is 500 euros a month. [1] Fish are free. [2]")
    assert answer.text == "The rent is 500 euros a month. [1] Fish are free. [2]"
    assert [name for name, _ in cited(answer)] == ["rent.txt", "pets.txt"]


def test_each_label_is_checked_against_its_own_clause() -> None:
    _, answer = run("The rent is 500 euros a month [1], and fish are free [2].")
    assert cited(answer) == [
        ("rent.txt", "The rent is 500 euros a month."),
        ("pets.txt", "Fish are free."),
    ]
    assert answer.text == "The rent is 500 euros a month [1], and fish are free [2]."


def test_labels_are_renumbered_to_the_citations() -> None:
    _, answer = run("Maya Ortiz wrote the contract [3]. The rent is 500 euros a month [1].")
    assert answer.text.count("[1]") == answer.text.count("[2]") == 1
    assert [name for name, _ in cited(answer)] == ["maya.txt", "rent.txt"]


def test_a_label_split_over_pieces_is_one_label() -> None:
    _, answer = run("The rent is 500 euros a month [", "1", "].")
    assert [name for name, _ in cited(answer)] == ["rent.txt"]


def test_without_labels_the_best_support_is_looked_for_and_marked() -> None:
    _, answer = run("The landlord decides within 14 days. Bananas are yellow fruit.")
    assert cited(answer) == [("pets.txt", "The landlord decides within 14 days.")]
    assert answer.fidelity["citations"] == "matched"
    assert answer.text == "The landlord decides within 14 days. [1] Bananas are yellow fruit."
    assert answer.confidence == 0.5


def test_brackets_in_code_are_no_labels() -> None:
    _, answer = run("Write `rent[1]`, as the rent is 500 euros a month [1].")
    assert "`rent[1]`" in answer.text
    assert answer.usage["unknown_labels"] == 0


@pytest.mark.parametrize(
    "pieces", [("NOT_FOUND",), ("NOT", "_FO", "UND."), ("`NOT_FOUND`",), ("",), (" \n",)]
)
def test_not_found_is_said_in_words_and_the_marker_is_never_shown(pieces: tuple[str, ...]) -> None:
    streamed, answer = run(*pieces)
    assert streamed == [NOT_FOUND_TEXT] == [answer.text]
    assert not answer.found
    assert answer.citations == ()


def test_a_word_that_starts_like_the_marker_is_shown() -> None:
    streamed, answer = run("NO", "TE: the rent is 500 euros a month [1].")
    assert "".join(streamed) == "NOTE: the rent is 500 euros a month [1]."
    assert answer.found


def test_a_short_answer_that_is_a_prefix_of_the_marker_is_shown() -> None:
    streamed, answer = run("NO")
    assert (streamed, answer.text, answer.found) == (["NO"], "NO", True)


def test_thoughts_of_the_model_are_not_part_of_the_answer() -> None:
    streamed, answer = run("<thi", "nk>Rent [2]?</think>", "\nThe rent is 500 euros a month [1].")
    assert "".join(streamed) == answer.text == "The rent is 500 euros a month [1]."


def test_without_hits_the_model_is_not_asked() -> None:
    model = ScriptedModel(["x"])
    answerer = GenerativeAnswerer(model, SimpleSegmenter(), answer_prompt)
    *_, answer = answerer.stream(Query("?"), [])
    assert isinstance(answer, Answer)
    assert not answer.found
    assert model.prompts == []


def test_closing_the_stream_closes_the_models() -> None:
    model = ScriptedModel(["The rent ", "is ", "500"])
    stream = GenerativeAnswerer(model, SimpleSegmenter(), answer_prompt).stream(Query("?"), HITS)
    assert next(stream) == "The rent "
    stream.close()  # type: ignore[attr-defined]
    assert model.is_closed


def test_a_wrong_overlap_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"min_overlap.*0"):
        GenerativeAnswerer(ScriptedModel(), SimpleSegmenter(), answer_prompt, min_overlap=0)


PARTS = st.sampled_from(
    ["[1]", "[2][9]", "The rent is 500 euros a month", ". ", "Fish are free", "[", "]", "\n- ", "1",
     "`x[1]`", "[1, 2]", "<think>", "NOT_FOUND", "é漢", " and "]
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.lists(PARTS, max_size=10))
def test_any_output_gives_verbatim_citations_and_labels_that_resolve(pieces: list[str]) -> None:
    _, answer = run(*pieces)
    cited(answer)
    for number in range(1, len(answer.citations) + 1):
        assert f"[{number}]" in answer.text
    assert 0.0 <= (answer.confidence or 0.0) <= 1.0
