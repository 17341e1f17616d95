"""Perplexity and bits per byte: worked values, sums, and a text that does not fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from chunkwise.errors import RequestError
from chunkwise.evaluation.perplexity import TextLoss, summarise_losses, text_losses
from chunkwise.types import Prompt
from tests.fakes import ScriptedModel


class Coin(ScriptedModel):
    """A `ScoringModel` that gives every character the probability 1/2, digits 1/4."""

    def nll(self, prefix: str | Prompt, text: str) -> NDArray[np.float32]:
        if len(text) > 10:
            raise RequestError("It is too long.")
        return np.array([math.log(4 if c.isdigit() else 2) for c in text], dtype=np.float32)

    def next_logits(self, prompt: str | Prompt) -> NDArray[np.float32]:
        return np.zeros(2, dtype=np.float32)


def test_worked_values() -> None:
    plain, digits, wide = text_losses(Coin(), ["abcd", "12", "éé"])
    assert plain.perplexity == pytest.approx(2)
    assert plain.bits_per_byte == pytest.approx(1)
    assert digits.perplexity == pytest.approx(4)
    assert digits.bits_per_byte == pytest.approx(2)
    assert wide.perplexity == pytest.approx(2)
    assert wide.bits_per_byte == pytest.approx(1 / 2)  # one bit, two bytes a character
    together = plain + digits
    # 4 + 4 bits over 6 tokens and 6 bytes
    assert together.perplexity == pytest.approx(2 ** (8 / 6))
    assert together.bits_per_byte == pytest.approx(8 / 6)


def test_summary_is_of_all_texts_together_with_an_interval_over_texts() -> None:
    found = summarise_losses(list(text_losses(Coin(), ["abcd", "12"])))
    assert found["perplexity"].value == pytest.approx(2 ** (8 / 6))
    assert found["perplexity"][1:] == pytest.approx((2, 4))
    assert found["bits_per_byte"] == pytest.approx((8 / 6, 1, 2))


def test_an_empty_text_costs_nothing() -> None:
    (empty,) = text_losses(Coin(), [""])
    assert empty == TextLoss(0.0, 0, 0)
    assert math.isnan(empty.perplexity)
    assert math.isnan(empty.bits_per_byte)


def test_a_loss_beyond_numbers_is_a_large_one() -> None:
    assert TextLoss(1e6, 1, 1).perplexity == math.exp(700)
    assert summarise_losses([TextLoss(1e6, 1, 1)])["perplexity"].value == math.exp(700)


def test_a_text_that_cannot_be_scored_is_named() -> None:
    with pytest.raises(RequestError, match=r"Text 2 \(11 characters\) cannot be scored: It is too"):
        list(text_losses(Coin(), ["a", "b" * 11]))
