"""Windows cover every token; the best spans are those of a plain search."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.rag.answering.spans import (
    Calibration,
    Candidate,
    Window,
    WindowScores,
    best_spans,
    char_span,
    cut_windows,
    token_range,
    window_starts,
)
from chunkwise.types import Span


@given(st.integers(0, 300), st.integers(1, 60), st.data())
def test_windows_cover_every_token_and_are_equally_long(
    length: int, size: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, size))
    starts = window_starts(length, size, stride)
    own = min(size, length)
    covered = {i for start in starts for i in range(start, start + own)}
    assert covered == set(range(length))
    assert all(0 <= start <= length - own for start in starts)
    assert all(0 < b - a <= stride for a, b in itertools.pairwise(starts))


def test_a_window_is_question_and_passage_between_edges() -> None:
    windows = cut_windows([7, 8], [[1, 2, 3], [], [4]], edges=(101, 102), size=2, stride=1)
    assert windows == [
        Window(0, 0, 2, 4, [101, 7, 8, 102, 1, 2, 102]),
        Window(0, 1, 2, 4, [101, 7, 8, 102, 2, 3, 102]),
        Window(2, 0, 1, 4, [101, 7, 8, 102, 4, 102]),
    ]


LOGITS = st.lists(st.tuples(st.floats(-9, 9, width=32), st.floats(-9, 9, width=32)), min_size=1)


@settings(deadline=None)
@given(st.lists(LOGITS, min_size=1, max_size=4), st.integers(1, 6))
def test_the_best_span_is_that_of_a_plain_search(
    windows: list[list[tuple[float, float]]], max_tokens: int
) -> None:
    cut, scores = [], []
    for number, logits in enumerate(windows):
        cut.append(Window(number, 0, len(logits), 0, [0] * len(logits)))
        columns = np.array(logits, dtype=np.float32)
        scores.append(WindowScores(columns[:, 0], columns[:, 1], float(number)))
    found = best_spans(cut, scores, max_tokens=max_tokens, most=3)
    best = max(
        float(np.float32(s[i][0]) + np.float32(s[j][1]))
        for s in windows
        for i in range(len(s))
        for j in range(i, min(i + max_tokens, len(s)))
    )
    assert found[0].score == pytest.approx(best, abs=1e-5)
    assert found[0].answer == found[0].passage
    for one, other in itertools.combinations(found, 2):
        assert one.score >= other.score
        is_apart = one.end <= other.start or other.end <= one.start
        assert one.passage != other.passage or is_apart
    assert all(0 < c.end - c.start <= max_tokens for c in found)


def test_the_share_is_the_probability_among_all_starts_and_ends_and_none() -> None:
    window = Window(0, 0, 2, 0, [0, 0])
    scores = WindowScores(np.log([2.0, 1.0]), np.log([1.0, 5.0]), 0.0)
    best = best_spans([window], [scores], max_tokens=2, most=1)[0]
    assert (best.start, best.end) == (0, 2)
    assert math.exp(best.share) == pytest.approx(2 / 4 * 5 / 7)  # 1 for "no answer" in each


def test_tokens_of_a_place_hold_any_of_its_characters() -> None:
    offsets = [(0, 3), (4, 7), (7, 9)]
    assert token_range(offsets, Span(5, 8)) == Span(1, 3)
    assert token_range(offsets, Span(3, 4)) is None
    assert char_span("abc defgh", offsets, 1, 3) == Span(4, 9)


def test_combining_marks_stay_with_their_letter() -> None:
    assert char_span("cafe\u0301 x", [(0, 4)], 0, 1) == Span(0, 5)


def test_confidence_is_a_logistic_regression() -> None:
    calibration = Calibration(score=1.0, answer=0.5, share=2.0, bias=-1.0)
    candidate = Candidate(0, 0, 1, score=2.0, answer=4.0, share=-1.5)
    assert calibration.confidence(candidate) == pytest.approx(0.5)
    assert calibration.confidence(candidate._replace(score=1e9)) == pytest.approx(1.0)
