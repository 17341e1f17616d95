"""Windows over passages for a reader, and the best spans from its scores. No tensors.

Shared by the reader and its training. Tokens are counted within a passage; a window is
`[CLS] question [SEP] tokens of one passage [SEP]`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkwise.types import Span

Floats = NDArray[np.float32]


class Window(NamedTuple):
    """A part of one passage behind a question.

    Attributes:
        passage: Index of the passage.
        first: Index of its first token among the passage's.
        own: How many of the passage's tokens it has.
        head: How many tokens stand before them: `[CLS] question [SEP]`.
        ids: All token ids, `head + own + 1`.
    """

    passage: int
    first: int
    own: int
    head: int
    ids: list[int]


class WindowScores(NamedTuple):
    """What a reader says of a window.

    Attributes:
        starts: Log-odds of each token as the answer's first, against no answer: `(own,)`.
        ends: The same as its last.
        answer: Log-odds that the window answers the question, by the head that reads it whole.
    """

    starts: Floats
    ends: Floats
    answer: float


class Candidate(NamedTuple):
    """A span that may be the answer, in tokens of its passage, half-open.

    Attributes:
        score: Log-odds of start and end together, against no answer.
        answer: Log-odds that its window answers the question.
        share: Log of the probability of its start and end among those of all windows and none.
    """

    passage: int
    start: int
    end: int
    score: float
    answer: float
    share: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Confidence from a candidate: two verdicts on it and its share, by logistic regression.

    Attributes:
        score: Weight of `Candidate.score`.
        answer: Weight of `Candidate.answer`.
        share: Weight of `Candidate.share`.
        bias: Constant.
        threshold: Confidence below which "not found" is better, fitted with the weights.
    """

    score: float = 0.5
    answer: float = 0.5
    share: float = 0.0
    bias: float = 0.0
    threshold: float = 0.5

    def confidence(self, candidate: Candidate) -> float:
        """Probability that the candidate is right, in [0, 1]."""
        logit = (
            self.score * candidate.score
            + self.answer * candidate.answer
            + self.share * candidate.share
            + self.bias
        )
        return float(1 / (1 + np.exp(-np.clip(logit, -50, 50))))


def cut_windows(
    question: Sequence[int],
    passages: Sequence[Sequence[int]],
    *,
    edges: tuple[int, int],
    size: int,
    stride: int,
) -> list[Window]:
    """Windows that together cover all tokens of all passages, in order; empty passages have none.

    Windows of one passage are equally long, so that they are computed together.

    Args:
        question: Its token ids.
        passages: Token ids of each.
        edges: Ids of `[CLS]` and `[SEP]`.
        size: Most tokens of a passage in a window.
        stride: Most tokens between the starts of two windows, in [1, size].
    """
    first, between = edges
    head = [first, *question, between]
    windows = []
    for number, passage in enumerate(passages):
        own = min(size, len(passage))
        for start in window_starts(len(passage), size, stride):
            ids = [*head, *passage[start : start + own], between]
            windows.append(Window(number, start, own, len(head), ids))
    return windows


def window_starts(length: int, size: int, stride: int) -> list[int]:
    """Starts of windows of `min(size, length)` tokens that cover `length`, evenly spread."""
    if length == 0:
        return []
    gaps = -(-max(length - size, 0) // stride)
    return [round(i * (length - size) / gaps) if gaps else 0 for i in range(gaps + 1)]


def best_spans(
    windows: Sequence[Window], scores: Sequence[WindowScores], *, max_tokens: int, most: int
) -> list[Candidate]:
    """At most `most` spans that do not overlap, likeliest first.

    Starts and ends of all windows compete with each other and with "no answer", whose log-odds
    are 0: one softmax for each over all passages.

    Args:
        windows: At least one.
        scores: One a window.
        max_tokens: Longest span.
        most: How many.
    """
    total = sum(_log_sum([getattr(s, name) for s in scores]) for name in ("starts", "ends"))
    found: list[Candidate] = []
    for window, score in zip(windows, scores, strict=True):
        for start, end, value in _pairs(score, max_tokens, most):
            place = window.first + start, window.first + end + 1
            found.append(Candidate(window.passage, *place, value, score.answer, value - total))
    found.sort(key=lambda c: (-c.score, c.passage, c.start, c.end))
    kept: list[Candidate] = []
    for candidate in found:
        if len(kept) == most:
            break
        if not any(_overlap(candidate, other) for other in kept):
            kept.append(candidate)
    return kept


def token_range(offsets: Sequence[tuple[int, int]], span: Span) -> Span | None:
    """The tokens that hold any character of `span`, half-open; None where there are none."""
    inside = [i for i, (a, b) in enumerate(offsets) if a < span.end and b > span.start and a < b]
    return Span(inside[0], inside[-1] + 1) if inside else None


def char_span(text: str, offsets: Sequence[tuple[int, int]], start: int, end: int) -> Span:
    """Characters of tokens `[start, end)`, with the combining marks that belong to the last."""
    first = min(a for a, _ in offsets[start:end])
    last = max(b for _, b in offsets[start:end])
    while last < len(text) and unicodedata.category(text[last]).startswith("M"):
        last += 1
    return Span(first, last)


def _pairs(score: WindowScores, max_tokens: int, most: int) -> list[tuple[int, int, float]]:
    """The `most` best (start, end) of a window; ends are of the last token, inclusive."""
    length = len(score.starts)
    reach = min(max_tokens, length)
    ends = np.full(length + reach - 1, -np.inf, dtype=np.float32)
    ends[:length] = score.ends
    table = score.starts[:, None] + np.lib.stride_tricks.sliding_window_view(ends, reach)
    order = np.argsort(-table, axis=None, kind="stable")[: 4 * most]
    picked = [divmod(int(i), reach) for i in order]
    return [(i, i + d, float(table[i, d])) for i, d in picked if np.isfinite(table[i, d])]


def _log_sum(parts: Sequence[Floats]) -> float:
    """Log of the sum of exponentials, "no answer" with its 0 included."""
    values = np.concatenate([np.zeros(1), *parts])
    top = float(values.max())
    return top + float(np.log(np.exp(values - top).sum()))


def _overlap(one: Candidate, other: Candidate) -> bool:
    is_apart = one.end <= other.start or other.end <= one.start
    return one.passage == other.passage and not is_apart
