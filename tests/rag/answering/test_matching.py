"""Terms and numbers: what counts as the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.rag.answering import matching


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("contracts", "contract"),
        ("Deposited", "deposit"),
        ("paying", "pays"),
        ("1,000", "1000"),
        ("12.50", "12.5"),
        ("３００", "300"),
        ("the tenant's", "the tenant"),
    ],
)
def test_forms_of_one_word_or_number_are_one_term(one: str, other: str) -> None:
    assert matching.terms(one) == matching.terms(other)


@pytest.mark.parametrize(("one", "other"), [("3.5", "35"), ("1999", "1998"), ("1.0005", "10005")])
def test_different_numbers_stay_different(one: str, other: str) -> None:
    assert matching.normal_number(one) != matching.normal_number(other)


def test_scripts_without_spaces_become_pairs() -> None:
    assert matching.terms("年假制度") == ["年假", "假制", "制度"]
    assert matching.terms("猫") == ["猫"]


def test_question_words_are_no_content_unless_nothing_else_is_there() -> None:
    assert matching.content_terms("How much is the rent?") == ["rent"]
    assert matching.content_terms("Who is it?") == ["who", "is", "it"]


def test_names_are_words_with_a_capital_inside_the_text() -> None:
    assert matching.names("Where did Maya Ortiz sign in Lisbon?") == {"maya", "ortiz", "lisbon"}


def test_capitals_say_nothing_in_german() -> None:
    assert matching.capitals_mean_names("The rent that Maya pays is due on the first.")
    assert not matching.capitals_mean_names("Die Miete und der Strom sind am Anfang fällig.")


@given(st.text())
def test_any_text_has_terms_and_shares_in_bounds(text: str) -> None:
    terms = matching.terms(text)
    weights = matching.inverse_frequency([terms, ["rent"]])
    assert 0.0 <= matching.coverage(terms, {"rent"}, weights) <= 1.0
    assert all(weights[term] > 0 for term in [*terms, "never seen"])
