"""A small data folder and a small tokenizer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chunkwise.training.nano import vocabulary
from chunkwise.training.nano.prompts import Prompts, document_names
from chunkwise.training.nano.stages import EVERYTHING


def texts(count: int = 150) -> list[str]:
    """Generated contexts as text."""
    chance = random.Random(3)
    made = []
    for _ in range(count):
        context = EVERYTHING.draw(chance, "train")
        made.append(vocabulary.as_text(context, document_names(chance, len(context.passages))))
    return made


@pytest.fixture(scope="session")
def tokenizer_text() -> str:
    """Content of a tokenizer.json of 1,000 tokens."""
    text: str = vocabulary.train_tokenizer(texts(), 1000).to_str()
    return text


@pytest.fixture(scope="session")
def prompts(tokenizer_text: str) -> Prompts:
    return Prompts(vocabulary.wrapped(tokenizer_text))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one text."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "text").mkdir()
    (folder / "text" / "sonnet.txt").write_text("\n".join(texts()), encoding="utf-8")
    return folder
