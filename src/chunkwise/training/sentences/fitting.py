"""Heads fitted on labelled texts: a logistic regression over all outputs, then thresholds for F1.

Source: WtP's adaptation (arXiv 2305.18893): threshold (WtP_T) and regression over all outputs
    (WtP_Punct).
Differs: the regression is drawn towards the head it starts from, so that few examples do no harm;
    a threshold a situation. Where there is punctuation, thresholds leave the rules alone unless
    that gains more than chance would; none may cost clean text what the rules find in it.
Exact when: deterministic.   Cost: seconds.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkwise.evaluation.segmentation import GoldText, corrupted
from chunkwise.rag.sentences.heads import CELLS, SURE, UNADAPTED, Head, features
from chunkwise.rag.sentences.model import BoundaryModel
from chunkwise.rag.sentences.network import NEWLINE, NUM_OUTPUTS
from chunkwise.rag.sentences.rules import RuleSegmenter
from chunkwise.rag.sentences.tokens import Flags, Ints
from chunkwise.training.sentences.corruption import Corruption, Labelled, corrupt

Doubles = NDArray[np.float64]

PULL: Final = 4.0
"""How strongly a regression is drawn to the head it starts from, in examples."""

_STEPS = 30
_ROUNDS = 3
_CANDIDATES = 400  # closest together among the likeliest tokens
_COST = 10.0  # of F1 that clean text loses against the rules
_SIGMAS = 2.5  # how far beyond chance decisions against the rules must be right
_PUNCTUATED = 4  # first of the cells with punctuation around


class Sample(NamedTuple):
    """Tokens of texts that are scored together.

    Attributes:
        features: `(n, NUM_OUTPUTS)`.
        cells: Each token's situation: `(n,)`.
        labels: 1 where a sentence ends behind the token.
        gold: Ends to be found.
        weight: Of its F1.
    """

    features: Doubles
    cells: Ints
    labels: Ints
    gold: int
    weight: float


def samples(
    model: BoundaryModel, texts: Sequence[GoldText], *, weight_stripped: float = 1.0
) -> list[Sample]:
    """The texts as they are, without punctuation and case, and without punctuation only."""
    stripped = [corrupted(text) for text in texts]
    return [
        _sample(model, texts, 1.0),
        _sample(model, stripped, weight_stripped),
        _sample(model, [_unpunctuated(text) for text in texts], weight_stripped / 2),
    ]


def pooled(by_language: Sequence[Sequence[Sample]]) -> list[Sample]:
    """The samples of all languages together: those at the same place become one."""
    return [
        Sample(
            np.concatenate([sample.features for sample in column]),
            np.concatenate([sample.cells for sample in column]),
            np.concatenate([sample.labels for sample in column]),
            sum(sample.gold for sample in column),
            column[0].weight,
        )
        for column in zip(*by_language, strict=True)
    ]


def paragraph_offset(model: BoundaryModel, texts: Sequence[GoldText]) -> float:
    """What to add to the log-odds of a line's end, for the best F1 where line breaks were lost.

    Args:
        model: The model.
        texts: Those with line breaks are used; without any the offset is 0.
    """
    scores, labels = [np.zeros(0)], [np.zeros(0, np.int64)]
    for text in texts:
        breaks = [place for place, character in enumerate(text.text) if character == "\n"]
        if breaks:
            tokens, outputs, _ = model.read(text.text.replace("\n", " "), np.zeros(0, np.int64))
            found = np.zeros(len(tokens.ends), np.int64)
            found[np.searchsorted(tokens.starts, breaks) - 1] = 1
            scores.append(outputs[:-1, NEWLINE].astype(np.float64))
            labels.append(found[:-1])
    order = np.argsort(-np.concatenate(scores))
    falling = np.concatenate(scores)[order]
    hits = np.cumsum(np.concatenate(labels)[order])
    if len(falling) < 2 or not hits[-1]:
        return 0.0
    best = int((hits / (np.arange(1, len(hits) + 1) + hits[-1]))[:-1].argmax())
    return -float(falling[best] + falling[best + 1]) / 2


def fit_head(found: Sequence[Sample], start: Head, *, pull: float = PULL) -> Head:
    """A head for the samples, from one that knows nothing of them.

    Args:
        found: Samples.
        start: The head to start from.
        pull: See `PULL`.
    """
    weights = fit_weights(found, np.array(start.weights), pull)
    return fit_offsets(found, dataclasses.replace(start, weights=tuple(weights.tolist())))


def fit_weights(found: Sequence[Sample], start: Doubles, pull: float) -> Doubles:
    """Weights of a logistic regression with an intercept a cell, by Newton's method."""
    x = np.concatenate([sample.features for sample in found])
    cells = np.concatenate([sample.cells for sample in found])
    x = np.concatenate([x, np.eye(len(CELLS))[cells]], axis=1)  # (n, NUM_OUTPUTS + 4)
    y = np.concatenate([sample.labels for sample in found]).astype(np.float64)
    anchor = np.concatenate([start, np.zeros(len(CELLS))])
    ridge = np.concatenate([np.full(NUM_OUTPUTS, pull), np.full(len(CELLS), 0.1)])
    w = anchor.copy()
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -40, 40)))
        gradient = x.T @ (p - y) + ridge * (w - anchor)
        hessian = (x * (p * (1 - p) + 1e-6)[:, None]).T @ x + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient)
        w -= step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-6:
            break
    return w[:NUM_OUTPUTS]


def fit_offsets(found: Sequence[Sample], head: Head) -> Head:
    """The head with the thresholds that give the best F1, cell by cell in some rounds."""
    scored = [(sample, sample.features @ np.array(head.weights)) for sample in found]
    offsets = np.array(UNADAPTED.offsets)
    for _ in range(_ROUNDS):
        before = offsets.copy()
        for cell in range(len(CELLS)):
            offsets[cell] = _best_offset(scored, offsets, cell)
        if np.array_equal(before, offsets):
            break
    return dataclasses.replace(head, offsets=tuple(offsets.tolist()))


def _best_offset(scored: Sequence[tuple[Sample, Doubles]], offsets: Doubles, cell: int) -> float:
    """The offset of a cell with the best weighted F1, others as they are."""
    own = [(scores[sample.cells == cell], sample) for sample, scores in scored]
    candidates = _candidates(np.concatenate([part for part, _ in own]))
    if not len(candidates):
        return float(offsets[cell])
    total = np.zeros(len(candidates))
    right, found = np.zeros(len(candidates)), np.zeros(len(candidates))
    for (part, sample), (_, scores) in zip(own, scored, strict=True):
        is_other = (sample.cells != cell) & (scores + offsets[sample.cells] > 0)
        hits, num = _above(part, sample.labels[sample.cells == cell], -candidates)
        right, found = right + hits, found + num
        all_hits = hits + int(sample.labels[is_other].sum())
        all_found = num + int(is_other.sum())
        f1 = 2 * all_hits / np.maximum(all_found + sample.gold, 1)
        total += sample.weight * f1
        if sample is scored[0][0]:
            total -= _COST * np.maximum(_rules_f1(sample) - f1, 0)
    if cell >= _PUNCTUATED:
        total[~_is_sure(right, found, is_ruled=cell % 2 == 1)] = -np.inf
    best = np.flatnonzero(total >= total.max() - 1e-12)
    return float(candidates[best[len(best) // 2]])


def _rules_f1(sample: Sample) -> float:
    """What the rules alone find."""
    is_ruled = sample.cells % 2 == 1
    return 2 * int(sample.labels[is_ruled].sum()) / max(int(is_ruled.sum()) + sample.gold, 1)


def _unpunctuated(text: GoldText) -> GoldText:
    labelled = Labelled(text.text, np.array(text.ends, np.int64), np.zeros(0, np.int64))
    found = corrupt(labelled, Corruption(removed=1.0), random.Random(0))
    return GoldText(found.text, tuple(found.ends.tolist()), text.language)


def _above(scores: Doubles, labels: Ints, least: Doubles) -> tuple[Ints, Ints]:
    """How many of the scores above each of `least` are of labelled tokens; how many there are."""
    order = np.argsort(scores)
    behind = np.append(np.cumsum(labels[order][::-1])[::-1], 0)
    first = np.searchsorted(scores[order], least, side="right")
    return behind[first], len(scores) - first


def _is_sure(right: Doubles, found: Doubles, *, is_ruled: bool) -> Flags:
    """Where overruling the rules, or leaving them alone, is right more often than chance explains.

    Args:
        right: Ends that are found at each offset, in falling order of offsets.
        found: Places that are taken for ends.
        is_ruled: The rules say that all places are ends; else that none is.
    """
    if is_ruled:
        changed = found[0] - found
        good = changed - (right[0] - right)
    else:
        changed, good = found, right
    sure: Flags = 2 * good - changed >= _SIGMAS * np.sqrt(changed)
    return sure


def _candidates(scores: Doubles) -> Doubles:
    """Offsets between neighbouring scores, the two that let the rules decide among them."""
    if not len(scores):
        return scores
    falling = np.unique(np.round(scores, 6))[::-1]  # between equal ones rounding would decide
    middles = (falling[1:] + falling[:-1]) / 2
    ranks = np.linspace(0, max(len(middles) - 1, 0) ** 0.5, _CANDIDATES) ** 2
    chosen = middles[np.unique(ranks.astype(int))] if len(middles) else middles
    return np.concatenate([[SURE], -chosen[::-1], [-SURE]])


def _sample(model: BoundaryModel, texts: Iterable[GoldText], weight: float) -> Sample:
    """Tokens of texts; the last end of each, which anyone finds, is left out."""
    rules = RuleSegmenter()
    parts: list[tuple[Doubles, Ints, Ints]] = []
    for text in texts:
        ruled = [end for _, end in rules.split(text.text, text.language or None)]
        reading = model.read(text.text, np.array(ruled, np.int64))
        tokens = reading.tokens
        if len(tokens.ends) < 2:
            continue
        inner = np.array(text.ends, np.int64)
        at = np.unique(np.searchsorted(tokens.ends, inner))
        labels = np.zeros(len(tokens.ends), np.int64)
        labels[at[at < len(labels)]] = 1
        is_used = ~tokens.is_cut
        is_used[-1] = False
        parts.append((features(reading.outputs)[is_used], reading.cells[is_used], labels[is_used]))
    if not parts:
        return Sample(
            np.zeros((0, NUM_OUTPUTS)), np.zeros(0, np.int64), np.zeros(0, np.int64), 0, weight
        )
    x, cells, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Sample(x, cells, labels, int(labels.sum()), weight)
