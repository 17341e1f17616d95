"""Perplexity chunking: the paper's minima, merging, and few chunks with deep minima between."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from chunkwise.errors import ConfigError
from chunkwise.rag.chunking import Chunker, chunkers
from chunkwise.rag.chunking.perplexity import depths, minima, sentence_losses
from chunkwise.rag.counting import named_counter
from chunkwise.scores import TokenLosses
from chunkwise.types import Document, Span
from tests.fakes import SimpleSegmenter

GOLDEN = np.array([3, 1, 2, 5, 0.5, 0.5, 4])


@dataclass(frozen=True)
class Scripted:
    """A `TextScorer` with one token a sentence, and these losses."""

    losses: tuple[float, ...]
    fingerprint: str = "scripted"

    def token_losses(self, text: str) -> TokenLosses:
        starts = [span.start for span in SimpleSegmenter().split(text)]
        return TokenLosses(np.array(starts, np.int64), np.array(self.losses, np.float32))


def texts(losses: tuple[float, ...], **options: object) -> list[str]:
    """Chunks of as many sentences of two words as there are losses, by their first words."""
    text = " ".join(f"S{i} end." for i in range(len(losses)))
    chunker: Chunker = chunkers.build(
        {"name": "perplexity", **options},
        counter=named_counter("words"),
        segmenter=SimpleSegmenter(),
        scorer=Scripted(losses),
    )
    spans = chunker.split(Document("d", text))
    return ["".join(w[1:] for w in text[a:b].split() if w[0] == "S") for a, b in spans]


@pytest.mark.parametrize(("threshold", "wanted"), [(0.0, [1, 4]), (2.5, [4]), (5.0, [])])
def test_minima_of_the_paper(threshold: float, wanted: list[int]) -> None:
    assert minima(GOLDEN, threshold) == wanted
    assert [i for i, d in enumerate(depths(GOLDEN)) if d and d >= threshold] == wanted


def test_the_dynamic_threshold_is_the_least_depth_of_a_hundred() -> None:
    falling = np.array([5.0, 1.0] * 100 + [5.0, 4.5] * 3 + [5.0])
    assert len(minima(falling, 0.0)) == 103
    assert len(minima(falling, 0.0, dynamic=True)) == 100


def test_paper_mode_merges_from_the_left_while_it_fits() -> None:
    losses = (3, 1, 2, 5, 0.5, 0.5, 4)
    assert texts(losses, mode="paper", size=4) == ["01", "23", "4", "56"]
    assert texts(losses, mode="paper", size=100) == ["0123456"]
    assert texts(losses, mode="paper", size=10) == ["01234", "56"]


def test_few_chunks_are_cut_at_the_deepest_minima() -> None:
    losses = (3, 2.9, 3, 3, 0.5, 4, 3, 3)
    assert texts(losses, size=10) == ["01234", "567"]
    assert texts(losses, size=16) == ["01234567"]
    assert texts(losses, size=16, cost=0.5) == ["01234", "567"]
    assert texts(losses, size=16, cost=0.0) == ["01", "234", "56", "7"]
    assert texts(losses, size=16, cost=0.0, threshold=2) == ["01234", "567"]


def test_tokens_belong_to_the_sentence_of_their_words() -> None:
    sentences = [Span(0, 4), Span(5, 8), Span(9, 12)]
    losses = TokenLosses(np.array([0, 2, 9]), np.array([1, 3, 5], np.float32))
    assert sentence_losses(losses, sentences).tolist() == [2, 2, 5]  # the second has none
    blanks_first = TokenLosses(np.array([0, 2, 4, 8]), np.array([1, 3, 7, 5], np.float32))
    assert sentence_losses(blanks_first, sentences).tolist() == [2, 7, 5]


def test_one_chunk_more_may_let_others_fall_on_deeper_minima() -> None:
    losses = (4, 4, 1, 4, 4, 4, 1, 4, 4, 4)
    assert texts(losses, size=12) == ["012", "3456", "789"]
    assert len(texts((4,) * 10, size=12)) == 2


@pytest.mark.parametrize(
    "options", [{"mode": "fast"}, {"threshold": -1}, {"cost": float("nan")}, {"size": 0}]
)
def test_wrong_options_are_named(options: dict[str, object]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=name):
        texts((1, 2), **options)


def test_all_is_kept_whatever_the_losses() -> None:
    rng = np.random.default_rng(0)
    for size, count in itertools.product((2, 5, 9), (1, 2, 3, 30)):
        losses = tuple(rng.random(count).tolist())
        for mode in ("dp", "paper"):
            found = "".join(texts(losses, size=size, mode=mode))
            assert found == "".join(map(str, range(count)))
