"""Figures of a reader on held-out questions, and the calibration of its confidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from chunkwise.evaluation.answers import abstention_auc, token_f1
from chunkwise.rag.answering.network import ReaderNetwork
from chunkwise.rag.answering.reading import ReadingOptions, score_windows
from chunkwise.rag.answering.spans import Calibration, Candidate, best_spans, char_span
from chunkwise.training.spans.examples import ExampleSet, Group, seeded, spread

_RIGHT_F1 = 0.5  # a span counts as right for the confidence from here on
_MIN_CASES = 40
_RIDGE = 1e-2
_MANY = 8


@dataclass(frozen=True, slots=True)
class Case:
    """A question over some passages, for measuring. `kind`: given, paired, many, many_paired."""

    kind: str
    examples: ExampleSet
    group: Group


class Read(NamedTuple):
    """What a reader said to a case.

    Attributes:
        kind: Of the case.
        candidate: Its best span; None where all passages are empty.
        text: The span's characters.
        answers: The gold answers; empty: unanswerable.
    """

    kind: str
    candidate: Candidate | None
    text: str
    answers: tuple[str, ...]


def make_cases(examples: ExampleSet, *, most: int, most_many: int, seed: str) -> list[Case]:
    """Held-out cases of one set.

    `given`: answerable questions with their own passage. `paired`: as many unanswerable ones:
    questions written to have no answer in their passage, and others with one of the twelve
    nearest passages that do not hold it. `many` and `many_paired`: the own passage among
    seven near ones, and eight near ones.

    Args:
        examples: Questions with exact answers are used; loose ones are not.
        most: Most cases of `given`, and of `paired`.
        most_many: The same of `many`.
        seed: Of the draw.
    """
    asked = examples.asked.questions
    places = spread([i for i, q in enumerate(asked) if not q.is_loose], most, f"{seed}/given")
    chance = seeded(seed, "paired")
    cases = []
    for i in places:
        near = examples.near(i, 12)
        if asked[i].answers:
            cases.append(_case("given", examples, i, [asked[i].passage]))
            if near:
                cases.append(_case("paired", examples, i, [chance.choice(near)]))
        else:
            cases.append(_case("paired", examples, i, [asked[i].passage]))
    for i in spread([i for i in places if asked[i].answers], most_many, f"{seed}/many"):
        near = examples.near(i, _MANY)
        mixed = [asked[i].passage, *near[: _MANY - 1]]
        chance.shuffle(mixed)
        cases.append(_case("many", examples, i, mixed))
        if near:
            cases.append(_case("many_paired", examples, i, near))
    return cases


def read_cases(
    cases: Sequence[Case], network: ReaderNetwork, options: ReadingOptions, dtype: torch.dtype
) -> list[Read]:
    """What the network says to each case; it is put into evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    windows = [case.examples.example(case.group).windows for case in cases]
    flat = [window for some in windows for window in some]
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        scores = score_windows(network, flat)
    reads, done = [], 0
    for case, own in zip(cases, windows, strict=True):
        mine = scores[done : done + len(own)]
        done += len(own)
        found = best_spans(own, mine, max_tokens=options.answer_tokens, most=1) if own else []
        reads.append(_read(case, found[0] if found else None))
    return reads


def fit_calibration(reads: Sequence[Read]) -> Calibration:
    """Weights and threshold from held-out answers; the defaults where there are too few.

    The confidence is the probability that a span is right: token F1 of at least 0.5 with a gold
    answer. The threshold gives the best F1 over as many unanswerable questions as answerable
    ones, "not found" counting as right for the former.
    """
    known = [read for read in reads if read.candidate is not None]
    right = np.array([_f1(read) >= _RIGHT_F1 and bool(read.answers) for read in known])
    if len(known) < _MIN_CASES or right.all() or not right.any():
        return Calibration()
    features = np.array([_features(read.candidate) for read in known if read.candidate])
    score, answer, share, bias = _logistic(features, right.astype(np.float64)).tolist()
    fitted = Calibration(score, answer, share, bias, 0.0)
    threshold = _best_threshold(known, fitted)
    return Calibration(score, answer, share, bias, threshold)


def figures(reads: Sequence[Read], calibration: Calibration) -> dict[str, float]:
    """Measures of one set: F1 and exact match given the passage, mixed, abstention, calibration."""
    found: dict[str, float] = {}
    for good, bad, suffix in (("given", "paired", ""), ("many", "many_paired", "_of_8")):
        answerable = [read for read in reads if read.kind == good]
        unanswerable = [read for read in reads if read.kind == bad]
        if not answerable or not unanswerable:
            continue
        found[f"f1{suffix}"] = _mean(_f1(read) for read in answerable)
        kept = [_f1(read, calibration) for read in answerable]
        refused = [_f1(read, calibration) for read in unanswerable]
        found[f"f1_mixed{suffix}"] = (_mean(kept) + _mean(refused)) / 2
        found[f"answered{suffix}"] = _mean(_is_shown(read, calibration) for read in answerable)
        found[f"refused{suffix}"] = 1 - _mean(_is_shown(r, calibration) for r in unanswerable)
        both = [*answerable, *unanswerable]
        confidence = [_confidence(read, calibration) for read in both]
        found[f"auc{suffix}"] = abstention_auc(confidence, [bool(r.answers) for r in both])
        found[f"calibration_error{suffix}"] = _calibration_error(both, confidence)
        found[f"questions{suffix}"] = len(both)
    return {name: round(float(value), 4) for name, value in found.items()}


def prefixed(name: str, values: Mapping[str, float]) -> dict[str, float]:
    """The figures under `name.`."""
    return {f"{name}.{key}": value for key, value in values.items()}


def _case(kind: str, examples: ExampleSet, question: int, passages: Sequence[int]) -> Case:
    asked = examples.asked.questions[question]
    has_own = asked.passage in passages and bool(asked.answers)
    return Case(
        kind, examples, Group(question, tuple(passages), asked.answers[0] if has_own else None)
    )


def _read(case: Case, candidate: Candidate | None) -> Read:
    whole, group = case.examples.asked, case.group
    answers: tuple[str, ...] = ()
    if group.answer is not None:
        asked = whole.questions[group.question]
        text = whole.passages[asked.passage].text
        answers = tuple(text[a:b] for a, b in asked.answers)
    if candidate is None:
        return Read(case.kind, None, "", answers)
    place = group.passages[candidate.passage]
    text = whole.passages[place].text
    span = char_span(text, case.examples.offsets(place), candidate.start, candidate.end)
    return Read(case.kind, candidate, text[span.start : span.end], answers)


def _features(candidate: Candidate) -> tuple[float, float, float, float]:
    return candidate.score, candidate.answer, candidate.share, 1.0


def _logistic(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logistic regression by Newton's method, with a small penalty on all but the constant."""
    ridge = _RIDGE * len(x) * np.diag([*[1.0] * (x.shape[1] - 1), 1e-6])
    weights = np.zeros(x.shape[1])
    for _ in range(40):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -50, 50)))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + ridge + 1e-9 * np.eye(x.shape[1])
        weights = weights - np.linalg.solve(hessian, x.T @ (p - y) + ridge @ weights)
    return weights


def _best_threshold(reads: Sequence[Read], calibration: Calibration) -> float:
    confidence = np.array([_confidence(read, calibration) for read in reads])
    f1 = np.array([_f1(read) if read.answers else 0.0 for read in reads])
    is_good = np.array([bool(read.answers) for read in reads])
    if is_good.all() or not is_good.any():
        return 0.5

    def mixed(threshold: float) -> float:
        shown = confidence >= threshold
        return float((f1 * shown)[is_good].mean() + (~shown)[~is_good].mean())

    return round(float(max(np.linspace(0.02, 0.98, 97), key=mixed)), 3)


def _confidence(read: Read, calibration: Calibration) -> float:
    return 0.0 if read.candidate is None else calibration.confidence(read.candidate)


def _is_shown(read: Read, calibration: Calibration) -> bool:
    return read.candidate is not None and _confidence(read, calibration) >= calibration.threshold


def _f1(read: Read, calibration: Calibration | None = None) -> float:
    """Token F1 of what is shown; without a calibration the span is shown always."""
    is_shown = calibration is None or _is_shown(read, calibration)
    return token_f1(read.text if is_shown else "", read.answers)


def _calibration_error(reads: Sequence[Read], confidence: Sequence[float]) -> float:
    """Mean gap between confidence and share right over ten equal bins, weighted by size."""
    right = np.array([_f1(read) >= _RIGHT_F1 and bool(read.answers) for read in reads])
    values = np.array(confidence)
    bins = np.minimum((values * 10).astype(int), 9)
    gaps = [
        abs(values[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
        for b in np.unique(bins)
    ]
    return float(sum(gaps))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
