"""Small random checkpoints, written once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from chunkwise.llm.local import LLM
from chunkwise.llm.models.fake import write_fake


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers in float32, with a tokenizer of bytes."""
    return write_fake("tiny-llama", tmp_path_factory.mktemp("tiny-llama"), dtype="float32")


@pytest.fixture(scope="session")
def oracle(tiny_llama: Path) -> LLM:
    """An engine that runs one request at a time, with plenty of memory."""
    return LLM(tiny_llama, dtype="float32", kernels="reference", kv_budget_mb=64)
