"""Losses of texts of any length: the same as in one piece where the text fits the window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chunkwise.errors import RequestError
from chunkwise.llm.losses import WindowScorer
from tests.llm.engines import engine

TEXT = "The cat sat on the mat. Café, naïve — and so on; 1234. " * 6


@pytest.fixture(scope="module")
def whole(tiny_llama: Path) -> WindowScorer:
    return WindowScorer(engine(tiny_llama, tokens=2000), window=10_000)


def test_a_text_that_fits_is_read_in_one_piece(whole: WindowScorer) -> None:
    found = whole.token_losses(TEXT)
    wanted = whole.llm.nll("", TEXT)
    assert found.nats.shape == found.starts.shape
    assert np.abs(found.nats - wanted).max() < 1e-4


def test_tokens_start_where_they_stand(whole: WindowScorer) -> None:
    ids, starts = whole.llm.tokenizer.encode_with_starts(TEXT)
    assert starts == sorted(starts)
    assert starts[0] == 0
    assert whole.token_losses(TEXT).starts.tolist() == starts
    assert len(ids) == len(starts)


@pytest.mark.parametrize("window", [8, 33, 200])
def test_each_token_is_read_once_behind_half_a_window(
    tiny_llama: Path, whole: WindowScorer, window: int
) -> None:
    scorer = WindowScorer(whole.llm, window)
    found, one_piece = scorer.token_losses(TEXT), whole.token_losses(TEXT)
    assert found.starts.tolist() == one_piece.starts.tolist()
    first = min(window, len(found.nats))
    assert np.abs(found.nats[:first] - one_piece.nats[:first]).max() < 1e-4
    ids, _ = whole.llm.tokenizer.encode_with_starts(TEXT)
    at = min(window + window // 2 - 1, len(ids) - 1)  # the last of the second window
    low = window // 2 if at > window else 0
    text = whole.llm.tokenizer.decode(ids[low : at + 1])
    again = whole.llm.tokenizer.encode_with_starts(text)[0]
    if again == ids[low : at + 1]:
        assert abs(found.nats[at] - whole.token_losses(text).nats[-1]) < 1e-3


def test_a_text_without_tokens_has_no_losses(whole: WindowScorer) -> None:
    found = whole.token_losses("")
    assert found.starts.shape == found.nats.shape == (0,)


def test_a_model_that_gives_no_numbers_is_an_error(
    whole: WindowScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = whole.llm.engine.runner.model.logits
    monkeypatch.setattr(whole.llm.engine.runner.model, "logits", lambda x: head(x) * np.nan)
    with pytest.raises(RequestError, match="cannot be read"):
        whole.token_losses("A text that nobody has read before.")
