"""Intent chunking: topics are found whatever the weights, and the published form's trap is kept."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.rag.chunking import chunkers
from chunkwise.rag.chunking.intent import nearness
from chunkwise.rag.counting import named_counter
from chunkwise.types import Block, Document, Query
from tests.fakes import SimpleSegmenter

TOPICS = ("cats", "ships", "bread", "stars")
DIM = 384


@dataclass(frozen=True)
class Topical:
    """An `Embedder`: a text that names a topic is near to it, and to its own noise."""

    fingerprint: str = "topical"
    dim: int = DIM
    max_tokens: int = 512
    is_weak: bool = False

    def embed(
        self, texts: Sequence[str], kind: Literal["query", "passage"] = "passage"
    ) -> NDArray[np.float32]:
        rows = []
        for text in texts:
            vector = np.random.default_rng(sum(map(ord, text))).normal(size=self.dim) / 16
            for i, topic in enumerate(TOPICS):
                vector[i] += topic in text.lower()
            rows.append(vector / np.linalg.norm(vector))
        return np.array(rows, np.float32)


SENTENCES = [f"Number {i} is about {TOPICS[i // 5]}." for i in range(20)]


def build(**options: object) -> object:
    return chunkers.build(
        {"name": "intent", **options},
        counter=named_counter("words"),
        segmenter=SimpleSegmenter(),
        embedder=Topical(),
    )


def ends(document: Document | str, query: Query | None = None, **options: object) -> list[int]:
    """How many sentences stand before the end of each chunk."""
    document = Document("d", document) if isinstance(document, str) else document
    spans = build(**options).split(document, query)  # type: ignore[attr-defined]
    return list(itertools.accumulate(document.text[a:b].count(".") for a, b in spans))


ASKED = [f"What about {topic}?" for topic in TOPICS]


@pytest.mark.parametrize("weights", [(0.002, 0.05), (0.002, 0.2), (0.002, 0.5), (0.01, 0.2)])
def test_topics_are_found(weights: tuple[float, float]) -> None:
    given = {"length_weight": weights[0], "cost": weights[1], "target": 5}
    assert ends(" ".join(SENTENCES), queries=ASKED, **given) == [5, 10, 15, 20]


@pytest.mark.parametrize("cost", [0.0, 0.05, 0.3])
def test_the_published_form_cuts_nearly_everywhere(cost: float) -> None:
    given = {"length_weight": 0.0005, "cost": cost, "target": 0, "breaks": 0, "centred": False}
    assert len(ends(" ".join(SENTENCES), queries=ASKED, **given)) > 15


def test_questions_come_from_headings_sentences_and_the_query() -> None:
    plain = " ".join(SENTENCES)
    none = ends(plain)
    assert ends(plain, Query(ASKED[1])) != none
    assert ends(plain + " " + " ".join(ASKED))[:3] == [5, 10, 15]
    heads = [topic.capitalize() for topic in TOPICS]
    text, blocks = "", []
    for i, head in enumerate(heads):
        blocks.append(Block("heading", len(text), len(text) + len(head), 1))
        text += head + "\n" + " ".join(SENTENCES[5 * i : 5 * i + 5]) + "\n"
    assert ends(Document("d", text, tuple(blocks))) == [5, 10, 15, 20]


def test_without_questions_length_and_paragraphs_decide() -> None:
    paragraphs = "\n\n".join(" ".join(SENTENCES[i : i + 4]) for i in range(0, 20, 4))
    assert ends(paragraphs, target=4) == [4, 8, 12, 16, 20]
    assert ends(paragraphs, target=5, length_weight=0.5) == [5, 10, 15, 20]
    assert max(np.diff([0, *ends(" ".join(SENTENCES), longest=3, target=9)])) == 3


def test_nearness_is_that_of_mean_vectors() -> None:
    vectors = Topical().embed(SENTENCES[:7])
    questions = Topical().embed(ASKED)
    for length, found in zip((1, 2, 5), nearness(vectors, questions, (1, 2, 5)), strict=True):
        for i, value in enumerate(found):
            mean = vectors[i : i + length].mean(0)
            wanted = max(questions @ mean) / np.linalg.norm(mean)
            assert value == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    "options", [{"queries": "one"}, {"longest": 0}, {"target": -1}, {"cost": float("nan")}]
)
def test_wrong_options_are_named(options: dict[str, object]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=name):
        build(**options)
