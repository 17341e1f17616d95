"""What every segmenter promises: spans in order, trimmed, covering all that is not blank."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.rag.sentences import segmenters
from chunkwise.types import Segmenter, Span
from tests.rag.sentences.models import write_random_model

TEXTS = [
    "",
    " \n\t ",
    "a",
    ".",
    "\U0001f600",
    "e\u0301. A\u0308.",
    "One. Two.\r\nThree",
    "\ufeffStart. End",
    "x" * 100_000,
    "word " * 20_000,
    "一。二。三",
    "\x00. \x1f",
]


def check(segmenter: Segmenter, text: str) -> None:
    spans = segmenter.split(text)
    at = 0
    for span in spans:
        assert isinstance(span, Span)
        assert at <= span.start < span.end <= len(text)
        assert not text[at : span.start].strip()
        assert text[span.start : span.end].strip() == text[span.start : span.end]
        at = span.end
    assert not text[at:].strip()


@pytest.fixture(scope="module", params=segmenters.own)
def segmenter(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Segmenter:
    options: dict[str, Any] = {}
    if "folder" in segmenters.options(request.param):
        options["folder"] = write_random_model(tmp_path_factory.mktemp("segmenter"))
    return segmenters.build({"name": request.param, **options})


@pytest.mark.parametrize("text", TEXTS)
def test_covers_all_that_is_not_blank(segmenter: Segmenter, text: str) -> None:
    check(segmenter, text)


@settings(deadline=None, max_examples=150)
@given(text=st.text(max_size=200))
def test_covers_any_text(segmenter: Segmenter, text: str) -> None:
    check(segmenter, text)


def test_an_unknown_language_is_no_error(segmenter: Segmenter) -> None:
    assert segmenter.split("One. Two.", "xx")


def test_has_a_fingerprint(segmenter: Segmenter) -> None:
    assert segmenter.fingerprint
