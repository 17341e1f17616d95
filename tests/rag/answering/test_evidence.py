"""Evidence: what a question asks for, and scores that follow the words."""

from __future__ import annotations

import numpy as np
import pytest

from chunkwise.rag.answering.evidence import (
    LEXICAL_FEATURES,
    LEXICAL_WEIGHTS,
    UNIT_FEATURES,
    VECTOR_WEIGHTS,
    asked_kind,
    trust_features,
    unit_features,
    weigh,
)
from chunkwise.rag.answering.units import units_of
from tests.fakes import HashingEmbedder, SimpleSegmenter, make_hit


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("How many rooms are there?", "number"),
        ("Wann wurde es gebaut?", "date"),
        ("What year did it open?", "date"),
        ("Who would help the children quickly?", "name"),
        ("Would the children quickly cower?", ""),
        ("有多少房间？", "number"),
        ("これは誰が書いた？", "name"),
    ],
)
def test_the_kind_that_a_question_asks_for(question: str, kind: str) -> None:
    assert asked_kind(question) == kind


def test_a_unit_of_the_asked_kind_scores_above_its_like_without() -> None:
    hits = [make_hit("The lodge was built by the lake.\nThe lodge was built in 1931.")]
    units = units_of(hits, SimpleSegmenter())
    scores = weigh("When was the lodge built?", hits, units, embedder=None).scores
    assert scores[1] > scores[0]


def test_the_fitted_weights_fit_the_features() -> None:
    hits = [make_hit("One lodge. Two lakes."), make_hit("Three boats.")]
    units = units_of(hits, SimpleSegmenter())
    for weights, embedder in ((LEXICAL_WEIGHTS, None), (VECTOR_WEIGHTS, HashingEmbedder())):
        features = unit_features("Which lodge?", hits, units, embedder=embedder)
        names = UNIT_FEATURES if embedder else LEXICAL_FEATURES
        assert features.shape == (3, len(names)) == (3, len(weights.rank))
        assert np.isfinite(features).all()
        trust = trust_features("Which lodge?", features, features[:, 0], units)
        assert trust.shape == (len(weights.trust),)
        assert 0 < weights.threshold < 1
