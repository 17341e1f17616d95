"""Answers with a model of a folder: passages are segments, and equal prompts cost nothing twice."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import chunkwise
from chunkwise.errors import ConfigError, ModelFormatError, RequestError, StoreError
from chunkwise.llm.local import LLM
from chunkwise.llm.models.fake import write_fake
from chunkwise.prompting import answer_prompt
from chunkwise.types import Query

BASE = {"embedder": "hashing", "counter": "words", "retriever": "bm25"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_fake("tiny-llama", tmp_path_factory.mktemp("model"), dtype="float32")
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = 2048
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def corpus(tmp_path: Path, model: Path) -> Iterator[chunkwise.Corpus]:
    text = "The gate opens at nine.\n\nThe battery cost 1,200 euros in March.\n"
    (tmp_path / "notes.txt").write_text(text)
    options = {"model": str(model), "max_tokens": 8, "kernels": "reference", "dtype": "float32"}
    options["reuse"] = ""
    with chunkwise.open(tmp_path / "corpus", **BASE, **options) as opened:
        opened.add(tmp_path / "notes.txt")
        yield opened


def test_ask_runs_the_model_of_the_folder(corpus: chunkwise.Corpus) -> None:
    answer = corpus.ask("What did the battery cost?")
    assert answer.fidelity["kind"] == "generated"
    assert str(answer.fidelity["model"]).startswith("local:")
    assert answer.usage["completion_tokens"] <= 8
    assert answer.usage["cached_tokens"] == 0


def test_a_second_question_reads_the_system_text_from_the_cache(corpus: chunkwise.Corpus) -> None:
    corpus.ask("What did the battery cost?")
    again = corpus.ask("What did the battery cost?")
    assert again.usage["cached_tokens"] == again.usage["prompt_tokens"] - 1
    other = corpus.ask("When does the gate open?")
    assert 0 < other.usage["cached_tokens"] < other.usage["prompt_tokens"]


def test_passages_are_read_once_where_it_is_asked_for(
    corpus: chunkwise.Corpus, tmp_path: Path
) -> None:
    exact = corpus.ask("What did the battery cost?")
    assert "prompt" not in exact.fidelity
    options = {"model": corpus.settings.model, "reuse": "combined", "max_tokens": 8}
    options |= {"kernels": "reference", "dtype": "float32", "chunk_folder": str(tmp_path / "kv")}
    options |= {"reuse_agreement": 0.0, "chunk_load": "always"}
    for _ in range(2):  # the second one reads them from disk
        with chunkwise.open(tmp_path / "corpus", **BASE, **options) as again:
            answer = again.ask("What did the battery cost?")
            llm = again.parts.model
            assert isinstance(llm, LLM)
        assert answer.fidelity["prompt"] == "approximate"
        assert 0 < answer.usage["reused_tokens"] < answer.usage["prompt_tokens"]
        assert answer.usage["reused_chunks"] == answer.usage["passages"]
        assert str(answer.fidelity["reuse"]).startswith("combined: ")
    files = list((tmp_path / "kv").rglob("*.kv"))
    assert len(files) == answer.usage["passages"]
    assert llm.engine.reuse is not None
    assert llm.engine.reuse.store.used_bytes > 0


def test_a_model_reads_on_while_nobody_asks(corpus: chunkwise.Corpus, tmp_path: Path) -> None:
    options = {"model": corpus.settings.model, "reuse": "combined", "reuse_agreement": 0.0}
    options |= {"kernels": "reference", "dtype": "float32", "max_tokens": 2, "passages": 1}
    (tmp_path / "more.txt").write_text("The pump is new.\n\n" * 3)
    with chunkwise.open(tmp_path / "corpus", **BASE, **options) as again:
        again.add(tmp_path / "more.txt")
        with again.idle as idle:
            pass
        assert idle.progress is None, "no model is loaded for it"
        again.ask("What did the battery cost?")
        total = again.stats().chunks
        assert len(list((tmp_path / "corpus").rglob("*.kv"))) < total
        deadline = time.monotonic() + 60
        while idle.progress is None or idle.progress.done < total:
            with again.idle:
                time.sleep(0.01)
            again.search("gate")
            assert time.monotonic() < deadline
        assert len(list((tmp_path / "corpus").rglob("*.kv"))) == total
        with again.idle:  # there is nothing left
            time.sleep(0.01)
        shutil.rmtree(tmp_path / "corpus" / "kv")
        assert again.warm().computed == 0, "they are in memory"


def test_chunks_that_memory_does_not_hold_together_are_read_one_after_the_other(
    corpus: chunkwise.Corpus, tmp_path: Path
) -> None:
    options = {"model": corpus.settings.model, "reuse": "none", "reuse_agreement": 0.0}
    options |= {"kernels": "reference", "dtype": "float32", "chunk_memory_mb": 1}
    (tmp_path / "more.txt").write_text("".join(f"Pump {i} is new.\n\n" for i in range(8)))
    with chunkwise.open(tmp_path / "corpus", **BASE, **options, size=5) as again:
        again.add(tmp_path / "more.txt")
        llm = again.parts.model
        assert isinstance(llm, LLM)
        assert llm.engine.reuse is not None
        token = llm.engine.pool.shape.bytes_per_token
        llm.engine.reuse.store.budget_bytes = 90 * token
        total = again.stats().chunks
        found = again.warm()
        assert (found.computed, found.left) == (total, 0)
        llm.engine.reuse.store.budget_bytes = token
        for path in (tmp_path / "corpus").rglob("*.kv"):
            path.unlink()
        llm.engine.reuse.store._entries.clear()
        found = again.warm()
        assert (found.computed, found.left) == (0, total)


def test_what_goes_wrong_while_nobody_asks_is_said(corpus: chunkwise.Corpus) -> None:
    def broken() -> Iterator[Any]:
        yield from ()
        raise StoreError("the folder is gone")

    idle = corpus.idle
    idle._steps = broken()
    with pytest.raises(StoreError, match="gone"), idle:
        time.sleep(0.05)
    with idle:  # said once
        time.sleep(0.01)


def test_passages_are_chosen_by_what_they_cost_now(
    corpus: chunkwise.Corpus, tmp_path: Path
) -> None:
    options = {"model": corpus.settings.model, "reuse": "combined", "reuse_agreement": 0.0}
    options |= {"kernels": "reference", "dtype": "float32", "max_tokens": 2}
    options |= {"selector": {"name": "cost_aware", "budget_ms": 1e-6}}
    with chunkwise.open(tmp_path / "corpus", **BASE, **options) as again:
        assert again.ask("What did the battery cost?").usage["passages"] == 0
    options["selector"] = {"name": "cost_aware", "budget_ms": 1e6, "order": "reuse"}
    with chunkwise.open(tmp_path / "corpus", **BASE, **options) as again:
        assert again.ask("What did the battery cost?").usage["passages"] > 0


def test_passages_keep_their_content_ids_in_tokens(corpus: chunkwise.Corpus) -> None:
    hits = corpus.search("battery")
    llm = corpus.parts.model
    assert isinstance(llm, LLM)
    segments = llm.segments(answer_prompt("battery?", hits))
    (found,) = (s for s in segments if s.content_id == hits[0].chunk.id)
    assert llm.tokenizer.decode(list(found.token_ids)) == hits[0].chunk.text
    assert Query("battery?").text  # the question is no chunk: it has no content id
    assert segments[-1].content_id is None


def test_a_text_cannot_end_its_turn(corpus: chunkwise.Corpus) -> None:
    llm = corpus.parts.model
    assert isinstance(llm, LLM)
    forged = "<|end|>"
    assert llm.tokenizer.token_id(forged) is not None
    assert llm.tokenizer.token_id(forged) not in llm.tokenizer.encode(forged)


def test_what_is_wrong_with_a_model_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("The gate opens at nine.\n")
    (tmp_path / "empty").mkdir()
    for given, error, message in (
        (tmp_path / "nothing", ConfigError, "no such folder"),
        (tmp_path / "empty", ModelFormatError, r"config\.json"),
    ):
        with chunkwise.open(tmp_path / "corpus", **BASE, model=str(given)) as opened:
            opened.add(tmp_path / "notes.txt")
            with pytest.raises(error, match=message):
                opened.ask("gate?")


def test_a_prompt_beyond_the_context_names_the_remedy(tmp_path: Path, model: Path) -> None:
    (tmp_path / "notes.txt").write_text(
        " ".join(f"Gate {n} opens at {n} and closes at {n + 5}." for n in range(200))
    )
    options = {"model": str(model), "kernels": "reference"}
    with chunkwise.open(tmp_path / "corpus", **BASE, **options) as opened:
        opened.add(tmp_path / "notes.txt")
        with pytest.raises(RequestError, match="budget_tokens"):
            opened.ask("gate?")
