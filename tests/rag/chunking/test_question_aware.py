"""The best of several cuts: chosen by ChunkScore, among those of about the same length."""

from __future__ import annotations

from typing import Any

import pytest

from chunkwise.errors import ConfigError
from chunkwise.rag._cohesion import chunk_score
from chunkwise.rag.chunking import chunkers
from chunkwise.rag.counting import named_counter
from chunkwise.types import Document
from tests.fakes import HashingEmbedder, SimpleSegmenter, UndecidedModel, WordBoundaries, WordScorer
from tests.rag.chunking.sections import near_model

PARTS: dict[str, Any] = {
    "counter": named_counter("words"),
    "segmenter": SimpleSegmenter(),
    "embedder": HashingEmbedder(),
    "scorer": WordScorer(),
    "model": UndecidedModel(),
}
TEXT = " ".join(f"Sentence {i} speaks of thing{i % 5} and more." for i in range(30))


def cut(spec: Any) -> list[str]:
    spans = chunkers.build(spec, size=20, **PARTS).split(Document("d", TEXT))
    return [TEXT[a:b] for a, b in spans]


def test_the_highest_chunk_score_is_taken() -> None:
    candidates = [{"name": "fixed"}, "recursive", "sentence", "perplexity"]
    cuts = [cut(one) for one in candidates]
    model, embedder = PARTS["model"], PARTS["embedder"]

    def score(chunks: list[str]) -> float:
        runs = [chunks[i : i + 8] for i in range(0, len(chunks), 8)]
        scores = [chunk_score(model, embedder, run).total for run in runs if len(run) > 1]
        return sum(scores) / len(scores)

    wanted = max(cuts, key=score)
    given = {"name": "question_aware", "candidates": candidates, "tolerance": 1.0}
    assert cut(given) == wanted
    assert len({tuple(each) for each in cuts}) > 2, "nothing to choose from"


def test_longer_chunks_do_not_compete() -> None:
    candidates = [{"name": "sentence", "size": 10}, "recursive"]
    given = {"name": "question_aware", "candidates": candidates, "tolerance": 0.2}
    assert cut(given) == cut(candidates[0])
    assert len(cut("recursive")) < 0.8 * len(cut(candidates[0]))


def test_candidates_with_models_of_their_own_compete() -> None:
    trained = {"name": "trained", "model_folder": near_model()}
    for candidate in ("learned_sentence", trained):
        given = {"name": "question_aware", "candidates": [candidate]}
        parts = {**PARTS, "segmenter": WordBoundaries()}
        built = chunkers.build(given, size=20, **parts)
        offered = {**parts, "boundaries": parts["segmenter"]}
        alone = chunkers.build(candidate, size=20, **offered)
        assert built.split(Document("d", TEXT)) == alone.split(Document("d", TEXT))
    assert built.fingerprint == alone.fingerprint  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        ("learned_sentence", "`candidates` holds 'learned_sentence'.* set segmenter="),
        ("trained", "`candidates` holds 'trained' without a model: give .*model_folder"),
        ({"name": "trained", "threshold": 0.4}, "`candidates` holds 'trained' without a model"),
    ],
)
def test_candidates_that_want_what_is_not_there_are_refused(candidate: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cut({"name": "question_aware", "candidates": ["recursive", candidate]})


@pytest.mark.parametrize(
    "options",
    [
        {"candidates": []},
        {"candidates": "recursive"},
        {"candidates": ["recursive", "question_aware"]},
        {"candidates": ["recursive", {"name": "fixed", "size": 21}]},
        {"candidates": ["recursive", {"name": "fixed", "overlap": 1}]},
        {"weight": 2},
        {"tolerance": -1},
    ],
)
def test_wrong_options_are_named(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=name):
        cut({"name": "question_aware", **options})
