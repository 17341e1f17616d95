"""Figures and calibration on readings made up by hand."""

from __future__ import annotations

import random

import pytest

from chunkwise.rag.answering.spans import Calibration, Candidate
from chunkwise.training.spans.scores import Read, figures, fit_calibration


def reading(kind: str, score: float, text: str, *answers: str) -> Read:
    return Read(kind, Candidate(0, 0, 1, score, score, 0.0), text, answers)


def test_figures_are_those_worked_out_by_hand() -> None:
    calibration = Calibration(score=1.0, answer=0.0, share=0.0, bias=0.0, threshold=0.5)
    reads = [
        reading("given", 3.0, "red", "red"),
        reading("given", 2.0, "the red mill", "red house", "red mill"),
        reading("given", -1.0, "blue", "blue"),
        reading("given", 1.0, "blue", "green"),
        reading("paired", -3.0, "blue"),
        reading("paired", 2.5, "blue"),
    ]
    found = figures(reads, calibration)
    assert found["f1"] == 0.75  # (1 + 1 + 1 + 0) / 4, nothing refused
    assert found["answered"] == 0.75
    assert found["refused"] == 0.5
    assert found["f1_mixed"] == 0.5  # (1 + 1 + 0 + 0) / 4, and 1 / 2
    assert found["auc"] == pytest.approx(5 / 8)
    assert found["questions"] == 6


def test_without_both_kinds_there_are_no_figures() -> None:
    assert figures([reading("given", 1.0, "a", "a")], Calibration()) == {}


def test_the_calibration_finds_the_odds_and_the_threshold() -> None:
    chance = random.Random(0)
    reads = []
    for _ in range(4000):
        score = chance.gauss(0, 3)
        is_right = chance.random() < 1 / (1 + 2.718281828 ** -(score - 1))
        kind = "given" if is_right else "paired"
        reads.append(reading(kind, score, "red", *(["red"] if is_right else [])))
    fitted = fit_calibration(reads)
    near = Candidate(0, 0, 1, 1.0, 1.0, 0.0)
    assert fitted.confidence(near) == pytest.approx(0.5, abs=0.06)
    assert 0.25 < fitted.threshold < 0.75
    assert figures(reads, fitted)["calibration_error"] < 0.05


def test_too_few_readings_leave_the_defaults() -> None:
    assert fit_calibration([reading("given", 1.0, "a", "a")] * 5) == Calibration()
