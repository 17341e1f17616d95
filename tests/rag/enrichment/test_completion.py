"""Sentences without which a chunk is not understood."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.rag.chunking import cut
from chunkwise.rag.counting import named_counter
from chunkwise.rag.enrichment.completion import CompletionEnricher
from chunkwise.types import Chunk, Document, Prompt, Span
from tests.fakes import ScriptedModel, SimpleSegmenter

TEXT = (
    "A tolk is a lamp of whale oil. Boats are grey. Ships are green. Anna Reed keeps the tower. "
    "She lights the tolk at dusk. It burns until dawn. Stones are old. Every tolk needs oil."
)


class Echo(ScriptedModel):
    """A `ScoringModel` to which a word costs a nat, and a tenth where it came before."""

    asked: list[tuple[str, str]]

    def __init__(self) -> None:
        super().__init__()
        self.asked = []

    def nll(self, prefix: str | Prompt, text: str) -> NDArray[np.float32]:
        assert isinstance(prefix, str)
        self.asked.append((prefix, text))
        seen = set(re.findall(r"\w+", prefix.lower()))
        return np.array(
            [0.1 if word in seen else 1.0 for word in re.findall(r"\w+", text.lower())], np.float32
        )


def chunks_at(*starts: str, text: str = TEXT) -> list[Chunk]:
    """The chunks of a text that begin with some words."""
    at = [text.index(start) for start in starts]
    spans = [Span(a, b) for a, b in zip(at, [*at[1:], len(text)], strict=True)]
    return cut(Document("d", text), spans, named_counter("words"), size=100)


def said(*starts: str, **options: Any) -> list[tuple[str, ...]]:
    enricher = CompletionEnricher(
        counter=named_counter("words"), segmenter=SimpleSegmenter(), foreseer=Echo(), **options
    )
    chunks = chunks_at(*starts)
    return enricher.enrich(Document("d", TEXT), chunks, [1000] * len(chunks))


def test_the_sentence_that_introduces_a_word_is_taken_from_afar() -> None:
    assert said("A tolk", "Every tolk")[1] == ("A tolk is a lamp of whale oil.",)


def test_the_last_sentences_are_candidates_and_others_are_not() -> None:
    chunks = ("A tolk", "Ships are green", "Anna Reed")
    assert said(*chunks, introducing=0)[1] == ("Boats are grey.",)
    assert said(*chunks, last=0)[1] == ()  # `are` tells nothing


def test_the_most_telling_comes_first_and_each_must_help_beside_it() -> None:
    found = said("A tolk", "She lights", "Stones", most=5, last=2, least=0.0)[1]
    assert found[0] in ("A tolk is a lamp of whale oil.", "Anna Reed keeps the tower.")
    assert set(found) == {"A tolk is a lamp of whale oil.", "Anna Reed keeps the tower."}
    assert len(said("A tolk", "She lights", "Stones", most=1, least=0.0)[1]) == 1


def test_what_saves_too_little_is_left_out() -> None:
    assert said("A tolk", "Every tolk", least=0.5)[1] == ()


def test_all_is_verbatim_and_stands_before_the_chunk() -> None:
    starts = ("A tolk", "Anna Reed", "She lights", "It burns", "Every tolk")
    chunks = chunks_at(*starts)
    found = said(*starts, most=4, last=3, least=0.0)
    assert found[0] == ()
    assert sum(map(len, found)) > 3
    for chunk, values in zip(chunks, found, strict=True):
        assert all(value in TEXT[: chunk.span.start] for value in values)


def test_the_model_is_not_asked_where_nothing_fits() -> None:
    model = Echo()
    enricher = CompletionEnricher(
        counter=named_counter("words"), segmenter=SimpleSegmenter(), foreseer=model, max_tokens=2
    )
    chunks = chunks_at("A tolk", "Every tolk")
    assert enricher.enrich(Document("d", TEXT), chunks, [1000, 1000]) == [(), ()]
    assert not model.asked


def test_a_long_document_of_one_line_takes_bounded_time() -> None:
    text = "word " * 400_000 + "end. Next one."
    model = Echo()
    enricher = CompletionEnricher(
        counter=named_counter("words"), segmenter=SimpleSegmenter(), foreseer=model
    )
    assert enricher.enrich(Document("d", text), chunks_at("Next", text=text), [100]) == [()]
    assert not model.asked


@pytest.mark.parametrize(
    ("options", "said_of"),
    [
        ({"most": 0}, "`most` must be a whole number, at least 1, got 0"),
        ({"last": -1}, "`last` must be a whole number, at least 0, got -1"),
        ({"introducing": 1.5}, "`introducing` must be a whole number, at least 0, got 1.5"),
        ({"least": -0.1}, "`least` must be a number of at least 0, got -0.1"),
        ({"least": float("nan")}, "`least` must be a number of at least 0, got nan"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], said_of: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said_of)):
        said("A tolk", **options)
