"""Scores of continuations are those of `nll` and `next_logits`; a prompt is read once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from chunkwise.errors import RequestError
from chunkwise.llm.continuations import ContinuationReader
from chunkwise.scores import Continuation
from chunkwise.types import Prompt, Segment
from tests.llm.engines import engine

PROMPT = Prompt((Segment("user", "The gate opens at nine. " * 4), Segment("user", "When?")))
TEXTS = ["At nine.", "The gate opens.", "x", "é水"]


@pytest.fixture
def reader(tiny_llama: Path) -> ContinuationReader:
    return ContinuationReader(engine(tiny_llama))


def asked(reader: ContinuationReader) -> list[Continuation]:
    return [Continuation(PROMPT, reader.encode(text)) for text in TEXTS]


def test_scores_are_those_of_nll(reader: ContinuationReader) -> None:
    for text, scores in zip(TEXTS, reader.scores(asked(reader)), strict=True):
        assert np.abs(scores.tokens + reader.llm.nll(PROMPT, text)).max() < 1e-4
        assert scores.tokens.shape == scores.ends.shape


def test_what_follows_is_as_likely_as_in_next_logits(reader: ContinuationReader) -> None:
    (found,) = reader.next_logprobs([Continuation(PROMPT, ())])
    logits = reader.llm.next_logits(PROMPT)
    assert found.shape == logits.shape
    assert np.abs(found - (logits - np.log(np.exp(logits).sum()))).max() < 1e-4
    assert reader.next_logprobs([]).shape == (0, len(logits))
    assert reader.scores([]) == []


def test_the_end_is_any_end_token_behind_each_token(tiny_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": [3, 5]}))
    for file in folder.glob("generation_config.json"):
        file.unlink()
    reader = ContinuationReader(engine(folder))
    ids = reader.encode("At nine.")
    (scores,) = reader.scores([Continuation(PROMPT, ids)])
    rows = reader.next_logprobs([Continuation(PROMPT, ids[: i + 1]) for i in range(len(ids))])
    assert np.abs(scores.ends - np.logaddexp(rows[:, 3], rows[:, 5])).max() < 1e-4
    assert np.abs(scores.tokens[1:] - rows[np.arange(len(ids) - 1), list(ids[1:])]).max() < 1e-4


def test_a_model_without_an_end_never_ends(reader: ContinuationReader) -> None:
    reader._ends = ()
    for scores in reader.scores(asked(reader)):
        assert np.isneginf(scores.ends).all()


def test_a_prompt_is_read_once(reader: ContinuationReader) -> None:
    length = reader.llm.engine.max_tokens - reader.room(PROMPT) - 2
    reader.scores(asked(reader))
    most = sum(len(reader.encode(text)) + 2 for text in TEXTS)
    assert length <= reader.llm.engine.num_rows <= length + most
    before = reader.llm.engine.num_rows
    reader.next_logprobs(asked(reader))
    reader.scores(asked(reader))
    assert reader.llm.engine.num_rows - before <= 2 * most < length


def test_room_is_what_fits(reader: ContinuationReader) -> None:
    room = reader.room(PROMPT)
    (scores,) = reader.scores([Continuation(PROMPT, (7,) * room)])
    assert len(scores.tokens) == room
    for count in (1, 2):
        with pytest.raises(RequestError, match="tokens"):
            reader.scores([Continuation(PROMPT, (7,) * (room + 1))] * count)
