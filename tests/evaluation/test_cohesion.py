"""Boundary clarity, stickiness and ChunkScore on values that can be worked out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.evaluation.cohesion import cohesion, stickiness
from chunkwise.rag._cohesion import boundary_clarity, chunk_score, separation
from chunkwise.types import Prompt
from tests.fakes import HashingEmbedder, ScriptedModel


@dataclass
class Remembering(ScriptedModel):
    """A `ScoringModel`: a word costs `known` nats where the prefix has it, else 2."""

    known: float = 1.0

    def nll(self, prefix: str | Prompt, text: str) -> NDArray[np.float32]:
        assert isinstance(prefix, str)
        seen = prefix.split()
        return np.array([self.known if w in seen else 2.0 for w in text.split()], np.float32)

    def next_logits(self, prompt: str | Prompt) -> NDArray[np.float32]:
        return np.zeros(1, np.float32)


def test_clarity_is_one_where_the_chunk_before_says_nothing() -> None:
    found = boundary_clarity(Remembering(), ["a b", "c d", "c e", "c e"])
    assert found.tolist() == pytest.approx([1, math.exp(-0.5), math.exp(-1)])
    assert boundary_clarity(Remembering(), ["a b"]).shape == (0,)


def test_stickiness_is_the_entropy_of_the_helped() -> None:
    assert stickiness(Remembering(), ["a", "b", "c"]) == 0
    assert stickiness(Remembering(), ["a", "a", "b"]) == 1  # one edge, two ends
    helped = 1 - math.exp(-1)
    shares = np.array([1, 2, 1]) / 4
    wanted = -(shares * np.log2(shares)).sum()
    assert stickiness(Remembering(), ["a", "a", "a"]) == pytest.approx(wanted)
    assert stickiness(Remembering(), ["a", "a", "a"], threshold=helped + 1e-6) == 0
    assert stickiness(Remembering(), ["a", "b", "a"], reach=2) == 1
    assert stickiness(Remembering(), ["a", "b", "a"]) == 0


def test_separation_of_known_vectors() -> None:
    d, k, alpha = 64, 8, 1e-3
    centring = np.eye(d) - np.ones((d, d)) / d
    basis = np.linalg.svd(centring)[0][:, :k].T  # orthonormal, of mean zero
    assert separation(basis, alpha) == pytest.approx(math.log(1 + alpha))
    twice = np.concatenate([basis[:-1], basis[:1]])
    assert separation(twice, alpha) == pytest.approx(-0.777, abs=0.01)
    same = np.repeat(basis[:1], k, axis=0)
    assert separation(same, alpha) == pytest.approx(-5.78, abs=0.01)


def test_chunk_score_is_a_weighted_sum_and_falls_with_copies() -> None:
    texts = ["red cats sleep", "blue ships sail", "old stars shine"]
    found = chunk_score(Remembering(), HashingEmbedder(), texts)
    assert found.independence == 1
    assert found.total == pytest.approx(0.3 + 0.7 * found.separation)
    copied = chunk_score(Remembering(), HashingEmbedder(), [*texts, texts[0]])
    assert copied.separation < found.separation
    alone = chunk_score(Remembering(), HashingEmbedder(), texts[:1])
    assert math.isnan(alone.independence)
    assert alone.total == alone.separation


def test_long_documents_are_measured_in_runs() -> None:
    texts = [f"word{i} same" for i in range(20)]
    found = list(cohesion(Remembering(), HashingEmbedder(), [texts, ["alone"], texts[:3]]))
    assert len(found) == 4  # runs of 8, 8, 4 and 3
    last = chunk_score(Remembering(), HashingEmbedder(), texts[:3])
    assert found[-1]["chunk_score"] == last.total
    assert found[-1]["stickiness"] == stickiness(Remembering(), texts[:3])


@pytest.mark.parametrize(("chunks", "weight"), [([], 0.3), (["a"], 1.5), (["a"], math.nan)])
def test_wrong_input_is_named(chunks: list[str], weight: float) -> None:
    with pytest.raises(ConfigError, match="weight"):
        chunk_score(Remembering(), HashingEmbedder(), chunks, weight=weight)
    with pytest.raises(ConfigError, match="reach"):
        stickiness(Remembering(), ["a"], reach=0)
