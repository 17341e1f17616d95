"""What every token counter promises."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.rag.counting import counters
from tests.conformance.chunking_cases import COUNTERS, TEXTS, any_text, counter

_CLEAN = " \n\t\r"


def test_every_counter_is_tested_here() -> None:
    tested = {type(counter(name)) for name in COUNTERS}
    assert {counters.load(name) for name in counters.own} <= tested


@pytest.mark.parametrize("name", COUNTERS)
@settings(deadline=None, max_examples=40)
@given(text=any_text)
def test_starts_are_places_of_the_text_and_as_many_as_tokens(name: str, text: str) -> None:
    starts = counter(name).starts(text)
    assert starts.dtype == np.int32
    assert len(starts) == counter(name).count(text)
    assert (np.diff(starts) >= 0).all()
    assert all(0 <= start < len(text) for start in starts)


@pytest.mark.parametrize("name", COUNTERS)
@pytest.mark.parametrize("text", TEXTS)
def test_hard_texts(name: str, text: str) -> None:
    assert len(counter(name).starts(text)) == counter(name).count(text)


@pytest.mark.parametrize("name", [n for n in COUNTERS if counter(n).is_additive])
@settings(deadline=None, max_examples=40)
@given(text=any_text, data=st.data())
def test_additive_counts_are_differences_of_starts(
    name: str, text: str, data: st.DataObject
) -> None:
    clean = {0, len(text)}
    for match in re.finditer(f"[{_CLEAN}]", text):
        clean |= set(match.span())
    start, end = sorted(data.draw(st.sampled_from(sorted(clean))) for _ in range(2))
    starts = counter(name).starts(text)
    inside = np.searchsorted(starts, end) - np.searchsorted(starts, start)
    assert counter(name).count(text[start:end]) == inside


@pytest.mark.parametrize("name", COUNTERS)
def test_fingerprints_differ(name: str) -> None:
    others = [counter(other).fingerprint for other in COUNTERS if other != name]
    assert counter(name).fingerprint not in others
