"""Situated vectors: the base index at gain 0, and the sum that the module writes down elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chunkwise.errors import ConfigError
from chunkwise.rag.situating import Form, situators
from chunkwise.types import Chunk, Document, Span
from tests.fakes import HashingEmbedder

TEXTS = [f"chunk {n} of ship {n % 3}" for n in range(12)]
DOCUMENT = Document("ships", "\n".join(TEXTS))


def chunks(headings: tuple[str, ...] = ()) -> list[Chunk]:
    starts = [DOCUMENT.text.index(text) for text in TEXTS]
    return [
        Chunk("", text, Span(at, at + len(text)), 5, headings)
        for at, text in zip(starts, TEXTS, strict=True)
    ]


def build(**options: Any) -> Any:
    return situators.build({"name": "situated", **options}, embedder=HashingEmbedder())


def made(headings: tuple[str, ...] = (), **options: Any) -> Any:
    situator = build(**options)
    return situator.embed(situator.forms(DOCUMENT, chunks(headings), TEXTS))


def test_no_gain_is_the_base_index_bit_for_bit() -> None:
    assert build(gain=0).forms(DOCUMENT, chunks(), TEXTS) == [Form(text) for text in TEXTS]
    assert np.array_equal(made(gain=0), HashingEmbedder().embed(TEXTS))


def test_neighbours_count_by_distance_and_the_path_as_it_is_told() -> None:
    base = HashingEmbedder().embed([*TEXTS, "Fleet > North"])
    own, path = base[5], base[-1]
    weighed = [(0.5, 3), (1, 4), (1, 6), (0.5, 7)]
    context = (sum(w * base[at] for w, at in weighed) + 2 * path) / 5
    want = own + 0.3 * context
    got = made(("Fleet", "North"), gain=0.3, neighbours=4, decay=0.5, path=2.0)[5]
    np.testing.assert_allclose(got, want / np.linalg.norm(want), atol=1e-6)


def test_attention_gives_weight_to_neighbours_that_are_alike() -> None:
    base = HashingEmbedder().embed(TEXTS)
    alike, other = base[5] @ base[2], base[5] @ base[4]  # of the same ship, and of another
    assert alike > other
    even, drawn = (made(gain=1.0, attention=a)[5] for a in (0.0, 30.0))
    assert drawn @ base[2] > even @ base[2]


@pytest.mark.parametrize("attention", [1e4, 1e300])
def test_much_attention_is_all_for_the_likest_neighbour(attention: float) -> None:
    base = HashingEmbedder().embed(TEXTS)
    got = made(gain=1.0, attention=attention)
    assert np.isfinite(got).all()
    want = base[5] + base[2]  # of the same ship
    np.testing.assert_allclose(got[5], want / np.linalg.norm(want), atol=1e-5)


def test_options_of_the_sum_are_in_the_key_and_others_are_not() -> None:
    def keys(**options: Any) -> list[str]:
        return [form.key for form in build(**options).forms(DOCUMENT, chunks(), TEXTS)]

    assert keys() == keys(gain=0.2)
    for options in ({"gain": 0.1}, {"decay": 0.5}, {"attention": 1.0}, {"neighbours": 2}):
        assert not set(keys()) & set(keys(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gain": -0.1}, "`gain` must be at least 0, got -0.1"),
        ({"gain": float("nan")}, "`gain` must be at least 0, got nan"),
        ({"neighbours": 3}, "`neighbours` must be an even whole number, at least 0, got 3"),
        ({"decay": 0}, r"`decay` must be in \(0, 1\], got 0"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**options)
