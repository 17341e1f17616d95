"""The recipe of sections: documents, figures, falling loss, exact resume."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from chunkwise.errors import ConfigError, TrainingDataError
from chunkwise.rag.chunking.sections import read_model
from chunkwise.rag.chunking.trained import TrainedChunker
from chunkwise.rag.counting import named_counter
from chunkwise.rag.parsing import parse
from chunkwise.rag.sentences import segmenters
from chunkwise.training.base import recipes
from chunkwise.training.boundaries import BoundariesRecipe, BoundariesTask
from chunkwise.training.loop import Loop
from chunkwise.training.run import Asked, run
from chunkwise.training.sections.documents import _sections, read_corpus
from chunkwise.training.sections.scores import auc, best_threshold, pooled_pk
from tests.fakes import HashingEmbedder, SimpleSegmenter
from tests.rag.chunking.sections import near_model
from tests.training.toys import write_rows

CPU = torch.device("cpu")
TOPICS = ["cats purr sleep mice", "stocks fell market shares", "rain wind storm cloud"]
RECIPE = BoundariesRecipe(
    steps=30, batch=64, hidden=16, embedder="hashing", evaluate_every=0, dropout=0.0
)


def write_documents(folder: Path, *, documents: int = 20, seed: int = 0) -> Path:
    """Markdown with a topic a section, and a file that no parser takes."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    for number in range(documents):
        parts = [f"# Document {number}"]
        for section in range(4):
            words = TOPICS[(section + number) % 3].split()
            parts.append(f"## Part {section}")
            parts += [f"{_sentence(chance, words)} {_sentence(chance, words)}" for _ in range(4)]
        (folder / f"{number}.md").write_text("\n\n".join(parts))
    (folder / "a.bin").write_bytes(b"\x00\x01\x02\xff" * 20)
    return folder


def _sentence(chance: random.Random, words: list[str]) -> str:
    return " ".join(chance.choices(words, k=8)).capitalize() + "."


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_documents(tmp_path_factory.mktemp("data"))


def prepared(data: Path, work: Path) -> BoundariesTask:
    return RECIPE.prepare(data, work, seed=0, device=CPU, dtype=torch.float32)


def test_it_is_found_by_its_name() -> None:
    assert recipes.load("boundaries") is BoundariesRecipe


def test_headings_are_labels_and_are_hidden(data: Path) -> None:
    corpus = read_corpus(data, "paragraph", segmenters.build("rules"), 0)
    assert [len(corpus.of(part)) for part in ("train", "valid", "test")] == [16, 2, 2]
    for document in corpus.documents:
        assert len(document.texts) == 16
        assert np.flatnonzero(document.ends).tolist() == [3, 7, 11]
        assert not any(text.startswith("#") for text in document.texts)
    assert all(not source.is_confirmed for source in corpus.sources)
    sentences = read_corpus(data, "sentence", segmenters.build("rules"), 0)
    assert all(d.ends.tolist() == [False, True] * 15 + [False] for d in sentences.documents)


def test_known_collections_say_their_licences(tmp_path: Path) -> None:
    rows = [
        {"path": str(i), "markdown": f"# A\n\nOne {i}.\n\nTwo.\n\n# B\n\nThree.\n\nFour."}
        for i in range(12)
    ]
    write_rows(tmp_path / "text" / "rust_book_md.jsonl.gz", rows)
    (source,) = read_corpus(tmp_path, "paragraph", segmenters.build("rules"), 10).sources
    assert (source.licence, source.is_confirmed, source.items) == ("MIT or Apache-2.0", True, 10)


def test_the_chunker_embeds_as_much_of_a_paragraph_as_is_learnt_from() -> None:
    document = parse(("\n\n".join(f"{'Long ' * 500}{i}." for i in range(3))).encode(), name="a.md")
    learnt = _sections(document, "paragraph", SimpleSegmenter())
    assert learnt is not None
    seen: list[str] = []

    class Noting(HashingEmbedder):
        def embed(
            self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage"
        ) -> NDArray[np.float32]:
            seen.extend(texts)
            return super().embed(texts, kind)

    chunker = TrainedChunker(
        counter=named_counter("words"),
        segmenter=SimpleSegmenter(),
        embedder=Noting(),
        model_folder=near_model(),
        size=1000,
    )
    chunker.split(document)
    assert seen == list(learnt.texts)


def test_the_card_says_what_was_learnt_from(data: Path, tmp_path: Path) -> None:
    own = " ".join(prepared(data, tmp_path).describe()["limits"])
    assert "headings of 16 documents" in own
    assert "technical" not in own
    rows = [
        {"path": str(i), "markdown": f"# A\n\nOne {i}.\n\nTwo.\n\n# B\n\nThree.\n\nFour."}
        for i in range(12)
    ]
    write_rows(tmp_path / "text" / "rust_book_md.jsonl.gz", rows)
    assert "technical documents in English" in " ".join(
        prepared(tmp_path, tmp_path / "work").describe()["limits"]
    )


def test_thirty_steps_lower_the_loss_and_beat_chance(data: Path, tmp_path: Path) -> None:
    task = prepared(data, tmp_path)
    loop = Loop(task, RECIPE.plan(None), seed=0, device=CPU, dtype=torch.float32)
    losses = [loop.step().loss for _ in range(30)]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    figures = task.evaluate(is_final=True)
    assert figures["auc"] > 0.95
    assert figures["pk"] < figures["random/pk"]
    assert figures["pk"] <= figures["cosine/pk"]


def test_a_resumed_run_has_the_weights_of_an_unbroken_one(data: Path, tmp_path: Path) -> None:
    options = {"batch": 16, "hidden": 8, "embedder": "hashing", "save_every": 4}

    def asked(out: str, **more: object) -> Asked:
        return Asked("boundaries", tmp_path / out, dtype="float32", **more)  # type: ignore[arg-type]

    whole = run(asked("whole", data=data, options=options, steps=12))
    calls = iter(range(100))
    broken = run(
        asked("broken", data=data, options=options, steps=12), should_stop=lambda: next(calls) == 7
    )
    assert not broken.is_finished
    again = run(asked("broken", resume=True))
    assert whole.model is not None
    assert again.model is not None
    weights = [m / "model.safetensors" for m in (whole.model, again.model)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    card = json.loads((again.model / "card.json").read_text())
    assert card["is_releasable"] is False
    assert card["figures"] == dict(whole.figures)
    assert read_model(again.model).unit == "paragraph"


def test_vectors_are_kept_for_the_next_time(data: Path, tmp_path: Path) -> None:
    first = prepared(data, tmp_path)
    files = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "vectors").iterdir()}
    second = prepared(data, tmp_path)
    assert files
    assert files == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "vectors").iterdir()}
    assert torch.equal(first.batches(3)[0].features, second.batches(3)[0].features)
    next((tmp_path / "vectors").iterdir()).write_bytes(b"torn")
    assert torch.equal(
        first.batches(3)[0].features, prepared(data, tmp_path).batches(3)[0].features
    )


def test_scores_by_hand() -> None:
    ends = [np.array([False, True, False, False, True, False])]
    right = [np.array([0.1, 0.9, 0.2, 0.1, 0.8, 0.3])]
    assert auc(right, ends) == 1
    assert auc([-right[0]], ends) == 0
    assert auc([np.zeros(6)], ends) == 0.5
    threshold = best_threshold(right, ends)
    assert 0.3 <= threshold < 0.8
    assert pooled_pk(right, ends, threshold) == 0
    assert pooled_pk(right, ends, 1.0) > 0


def test_data_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="no such data folder"):
        prepared(tmp_path / "nowhere", tmp_path)
    with pytest.raises(TrainingDataError, match="holds 0 documents"):
        prepared(tmp_path, tmp_path)
    for i in range(9):
        (tmp_path / f"{i}.md").write_text(f"No heading {i}.\n\nAnd none here.")
    with pytest.raises(TrainingDataError, match="no section ends"):
        prepared(tmp_path, tmp_path)


@pytest.mark.parametrize(
    "options", [{"unit": "page"}, {"dropout": 1.0}, {"hidden": 0}, {"documents": -1}]
)
def test_options_that_cannot_be_used_are_named(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"`{next(iter(options))}`"):
        BoundariesRecipe(**options)  # type: ignore[arg-type]
