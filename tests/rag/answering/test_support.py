"""Support of a statement: the verbatim sentences that carry it, or none."""

from __future__ import annotations

from chunkwise.rag.answering.support import Claim, Support, find_support
from tests.fakes import SimpleSegmenter, make_hit

TEXT = (
    "Leave is 28 days a year. Unused days lapse in March. "
    "Sick leave needs a note after three days. Parents get 10 extra days."
)


def support(statement: str, text: str = TEXT, **options: object) -> Support | None:
    claim = Claim.of(statement, "What is the leave?")
    hit = make_hit(text, **options)  # type: ignore[arg-type]
    return find_support(claim, hit, SimpleSegmenter(), min_overlap=0.5)


def quoted(statement: str, text: str = TEXT) -> list[str]:
    found = support(statement, text)
    return [text[span.start : span.end] for span in found.spans] if found else []


def test_one_sentence_is_enough_for_one_fact() -> None:
    assert quoted("Unused days lapse in March.") == ["Unused days lapse in March."]


def test_facts_far_apart_are_quoted_apart_and_neighbours_together() -> None:
    assert quoted("Leave is 28 days a year, and parents get 10 extra days.") == [
        "Leave is 28 days a year.",
        "Parents get 10 extra days.",
    ]
    assert quoted("Leave is 28 days a year and unused days lapse in March.") == [
        "Leave is 28 days a year. Unused days lapse in March."
    ]


def test_a_number_must_stand_in_the_quoted_sentences_or_be_written_as_a_word() -> None:
    assert quoted("Sick leave needs a note after 3 days.")
    assert not quoted("Sick leave needs a note after 28 days.")


def test_headings_and_header_may_give_names_and_numbers() -> None:
    assert support("In 2024 Acme parents got 10 extra days.") is None
    assert support("In 2024 Acme parents got 10 extra days.", headings=("Acme 2024",))


def test_nothing_supports_a_statement_without_words() -> None:
    assert support("...") is None
    assert support("Leave is 28 days.", text="") is None
