"""Borders of chunks against headings: worked examples, in tokens that are characters."""

from __future__ import annotations

import itertools

import pytest

from chunkwise.evaluation.boundaries import pk, windowdiff
from chunkwise.evaluation.headings import heading_counts, summarise_headings
from chunkwise.types import Block, Document, Span
from tests.fakes import CharCounter

TEXT = "# A\nxxxxxxxx# B\nyyyyyyyy# C\nzzzzzzzz"  # a heading each 12 characters


def document(*heads: int, text: str = TEXT) -> Document:
    return Document("d", text, tuple(Block("heading", at, at + 3, level=1) for at in heads))


def spans(*edges: int) -> list[Span]:
    return [Span(a, b) for a, b in itertools.pairwise(edges)]


def test_cuts_at_the_headings_have_no_errors() -> None:
    counts = heading_counts(document(0, 12, 24), spans(0, 12, 24, 36), CharCounter())
    assert counts is not None
    assert (counts.shared, counts.found, counts.gold) == (2, 2, 2)
    assert counts.pk_errors == counts.windowdiff_errors == 0
    assert counts.windows == 30


def test_counts_are_those_of_pk_and_windowdiff_over_tokens() -> None:
    counts = heading_counts(document(0, 12, 24), spans(0, 5, 12, 20, 36), CharCounter())
    assert counts is not None
    gold, found = {12, 24}, {5, 12, 20}
    assert counts.pk_errors / counts.windows == pytest.approx(pk(gold, found, 36))
    assert counts.windowdiff_errors / counts.windows == pytest.approx(windowdiff(gold, found, 36))
    assert counts.windowdiff_errors > 0


@pytest.mark.parametrize("heads", [(), (12,)])
def test_a_document_without_two_headings_is_left_out(heads: tuple[int, ...]) -> None:
    assert heading_counts(document(*heads), spans(0, 36), CharCounter()) is None


def test_a_heading_right_under_another_is_no_border_of_its_own() -> None:
    text = "# A\n# B\nyyyyyyyy# C\nzzzzzzzz"
    counts = heading_counts(document(0, 4, 16, text=text), spans(0, 16, 28), CharCounter())
    assert counts is not None
    assert (counts.shared, counts.gold) == (1, 1)


def test_an_overlapping_chunk_begins_behind_what_it_repeats() -> None:
    chunks = [Span(0, 12), Span(9, 24), Span(20, 36)]
    counts = heading_counts(document(0, 12, 24), chunks, CharCounter())
    assert counts is not None
    assert (counts.shared, counts.found) == (2, 2)


def test_documents_are_summed_and_nothing_is_shown_without_one() -> None:
    assert summarise_headings([]) == {}
    one = heading_counts(document(0, 12, 24), spans(0, 12, 24, 36), CharCounter())
    two = heading_counts(document(0, 12, 24), spans(0, 36), CharCounter())
    assert one is not None
    assert two is not None
    found = summarise_headings([one, two], resamples=100)
    expected = two.pk_errors / (one.windows + two.windows)
    assert found["pk_headings"].value == pytest.approx(expected)
    assert found["windowdiff_headings"].high >= found["windowdiff_headings"].value > 0
