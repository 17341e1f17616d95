"""`trained`: cuts where the model says that a topic ends, headings, limits, models that fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from chunkwise.config import Settings
from chunkwise.errors import ConfigError, ModelFormatError
from chunkwise.pipeline import parts
from chunkwise.rag.chunking import Chunker, chunkers
from chunkwise.rag.chunking.sections import (
    LAYOUT,
    layout_features,
    paragraphs,
    read_model,
    write_model,
)
from chunkwise.rag.counting import named_counter
from chunkwise.rag.parsing import parse
from chunkwise.types import Document, Span
from tests.fakes import HashingEmbedder, SimpleSegmenter
from tests.rag.chunking.sections import near_model, write_near_model

WORDS = named_counter("words")
CATS = ["Cats purr softly.", "Cats sleep and purr softly.", "Cats purr and sleep."]
STOCKS = ["Stocks fell today.", "Stocks rose and fell.", "Stocks fell and rose today."]


def build(**options: object) -> Chunker:
    return chunkers.build(
        {"name": "trained", **options},
        counter=WORDS,
        segmenter=SimpleSegmenter(),
        embedder=HashingEmbedder(),
        model_folder=near_model(),
    )


def texts(chunker: Chunker, document: Document) -> list[str]:
    return [document.text[a:b] for a, b in chunker.split(document)]


def test_sections_that_fit_are_those_of_the_threshold() -> None:
    document = Document("d", "\n\n".join([*CATS, *STOCKS]))
    assert texts(build(size=100), document) == ["\n\n".join(CATS), "\n\n".join(STOCKS)]
    assert len(texts(build(size=100, threshold=0.001), document)) > 2
    assert len(texts(build(size=100, threshold=0.9999), document)) == 1


def test_the_limit_cuts_where_a_topic_ends_soonest() -> None:
    document = Document("d", "\n\n".join([*CATS, *STOCKS]))
    found = texts(build(size=9), document)
    assert "\n\n".join(STOCKS[:2]) in found or STOCKS[0] in found
    assert all("Cats" not in chunk or "Stocks" not in chunk for chunk in found)


def test_short_sections_are_joined_where_that_can_be() -> None:
    document = Document("d", "\n\n".join([*CATS, *STOCKS]))
    assert len(texts(build(size=100, min_size=15), document)) == 1


def test_a_heading_begins_a_chunk_and_stays_with_what_follows() -> None:
    text = f"# One\n\n{CATS[0]}\n\n{CATS[1]}\n\n# Two\n\n{CATS[2]}\n\n{STOCKS[0]}\n"
    document = parse(text.encode(), name="a.md")
    assert texts(build(size=100), document) == [
        f"# One\n\n{CATS[0]}\n\n{CATS[1]}",
        f"# Two\n\n{CATS[2]}",
        STOCKS[0],
    ]


def test_a_model_of_sentences_cuts_between_sentences(tmp_path: Path) -> None:
    folder = write_near_model(tmp_path, unit="sentence")
    document = Document("d", " ".join([*CATS, *STOCKS]))
    found = texts(build(size=100, model_folder=folder), document)
    assert found == [" ".join(CATS), " ".join(STOCKS)]


def test_a_paragraph_is_cut_only_where_it_must_be() -> None:
    document = Document("d", f"{' '.join(CATS)} {' '.join(STOCKS)}\n\n{STOCKS[0]}")
    assert len(texts(build(size=100), document)) == 1


def test_layout_says_how_neighbours_look() -> None:
    text = "Take these:\n\n  - one thing\n\n2. Second part\n\nand so on."
    document = parse(text.encode(), name="a.txt")
    spans = paragraphs(Document("d", text))
    found = [dict(zip(LAYOUT, row, strict=True)) for row in layout_features(document.text, spans)]
    assert found[0]["left_colon"]
    assert found[0]["right_bullet"]
    assert found[0]["indented"]
    assert found[1]["right_number"]
    assert found[1]["outdented"]
    assert found[2]["right_lower"]
    assert not found[2]["left_stop"]
    assert layout_features("x", [Span(0, 1)]).shape == (0, len(LAYOUT))


def test_written_models_are_read_again(tmp_path: Path) -> None:
    model = read_model(Path(write_near_model(tmp_path, threshold=0.25)))
    (tmp_path / "again").mkdir()
    write_model(tmp_path / "again", model)
    again = read_model(tmp_path / "again")
    assert again.fingerprint == model.fingerprint
    assert again.threshold == 0.25
    for name, each in model.weights.items():
        np.testing.assert_array_equal(again.weights[name], each)


def test_long_documents_are_scored_as_short_ones() -> None:
    model = read_model(Path(near_model()))
    vectors = HashingEmbedder().embed([f"w{i % 7} w{i % 5}" for i in range(9000)])
    layout = np.zeros((8999, len(LAYOUT)), np.float32)
    whole = model.odds(vectors, layout)
    np.testing.assert_allclose(
        whole[4090:4100], model.odds(vectors[4090:4101], layout[4090:4100]), atol=1e-4
    )


def test_models_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"holds no model of sections.*train boundaries"):
        build(model_folder=str(tmp_path / "nothing"))
    folder = Path(write_near_model(tmp_path))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "embedder": "other"}))
    with pytest.raises(
        ConfigError, match=r"trained on vectors of 'other'.*`embedder` is 'hashing'"
    ):
        build(model_folder=str(folder))
    (folder / "config.json").write_text(json.dumps({**config, "dim": 7}))
    with pytest.raises(ModelFormatError, match="not of one model"):
        build(model_folder=str(folder))
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelFormatError, match="damaged"):
        build(model_folder=str(folder))


def test_where_none_is_packaged_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "packaged_folder", lambda name: None)
    settings = Settings(chunker="trained", counter="words", embedder="hashing")
    with pytest.raises(ConfigError, match=r"none is packaged: `chunkwise train boundaries`"):
        _ = parts.Parts(settings).chunker
