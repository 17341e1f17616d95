from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import ConfigError
from chunkwise.rag.embedding.hashing import HashingEmbedder

TEXTS = ["The quick brown fox.", "naïve café", "東京の天気", "", "🙂🙂", "ten words " * 50, "a"]


def test_vectors_are_the_same_in_another_process() -> None:
    code = (
        "from chunkwise.rag.embedding.hashing import HashingEmbedder; "
        f"print(HashingEmbedder(32).embed({TEXTS!r}).tobytes().hex())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] == HashingEmbedder(32).embed(TEXTS).tobytes().hex()


def test_vectors_have_not_changed_since_version_1() -> None:
    """Stored corpora depend on them: a change must raise `_VERSION`."""
    got = HashingEmbedder(16).embed(["the quick brown fox"])[0]
    np.testing.assert_allclose(got, GOLDEN, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=60), max_size=8))
def test_one_at_a_time_equals_many_and_all_are_unit(texts: list[str]) -> None:
    embedder = HashingEmbedder(64)
    together = embedder.embed(texts)
    assert together.shape == (len(texts), 64)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(embedder.embed([text])[0], vector, atol=1e-6)


def test_more_texts_than_one_batch_keep_their_order() -> None:
    texts = [f"document number {i} about topic {i % 7}" for i in range(1100)]
    embedder = HashingEmbedder(64)
    np.testing.assert_allclose(
        embedder.embed(texts)[1050:], embedder.embed(texts[1050:]), atol=1e-6
    )


def test_lone_surrogates_and_long_texts_are_texts_too() -> None:
    made = HashingEmbedder().embed(["\ud800", "x" * 200_000, "word " * 50_000])
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1.0, atol=1e-5)


def test_case_and_composition_make_no_difference() -> None:
    a, b = HashingEmbedder().embed(["CAFÉ Straße", "cafe\u0301 strasse"])
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_text_that_shares_words_is_nearest() -> None:
    passages = [
        "Photosynthesis turns light into chemical energy in the leaves of plants.",
        "The Bank of England sets interest rates to control inflation.",
        "A kernel schedules processes and manages memory of the machine.",
    ]
    questions = ["how do plants use light energy", "who sets interest rates", "process scheduling"]
    embedder = HashingEmbedder()
    similarity = embedder.embed(questions, "query") @ embedder.embed(passages).T
    assert similarity.argmax(axis=1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("dim", [0, 15, 65537])
def test_a_dimension_out_of_range_is_refused(dim: int) -> None:
    with pytest.raises(ConfigError, match=r"`dim` must be in \[16, 65536\]"):
        HashingEmbedder(dim)


def test_the_fingerprint_names_the_dimension() -> None:
    assert HashingEmbedder(64).fingerprint != HashingEmbedder(128).fingerprint


GOLDEN = [
    0.0,
    -0.2018035,
    0.0,
    0.2018035,
    -0.4485464,
    -0.2018035,
    -0.1077938,
    -0.2820289,
    0.0,
    -0.5778421,
    -0.0940096,
    0.2733434,
    0.0715399,
    0.0,
    0.0,
    0.403607,
]
