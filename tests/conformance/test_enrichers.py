"""What every enricher promises, for any text, any structure and any chunker."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import ConfigError
from chunkwise.pipeline.forms import Forms
from chunkwise.rag.chunking import chunkers, cut
from chunkwise.rag.enrichment import Enricher, enrichers
from chunkwise.rag.situating.none import NoSituator
from chunkwise.types import Block, Chunk, Document, Span
from tests.conformance import chunking_cases
from tests.conformance.chunking_cases import TEXTS, counter, documents
from tests.fakes import (
    HashingEmbedder,
    ScriptedModel,
    SimpleSegmenter,
    UndecidedModel,
)

COUNTERS = ["chars", "words", "bpe"]
TEXT = (
    "Ferries\n\nThe Harbour Ferry is a small ship. It was built in May 1932.\n\n"
    "What does a child pay? A child pays half. The Ferry has 40 cabins.\n\nCrew\n\n"
    "Each winter the crew repairs the engine valve, and the engine valve breaks again."
)
LIMIT = 30


def build(name: str, counts: str = "words", **options: Any) -> Enricher:
    return enrichers.build(
        {"name": name, **options},
        counter=counter(counts),
        segmenter=SimpleSegmenter(),
        foreseer=UndecidedModel(),
    )


def check(enricher: Enricher, document: Document, rooms: int = 1000) -> list[tuple[str, ...]]:
    chunks = chunks_of(document)
    found = enricher.enrich(document, chunks, [rooms] * len(chunks))
    assert found == enricher.enrich(document, chunks, [rooms] * len(chunks))
    assert chunks == chunks_of(document)
    assert len(found) == len(chunks)
    for values in found:
        assert all(value.strip() for value in values)
        joined = enricher.separator.join(values)
        assert enricher.counter.count(joined) <= max(min(rooms, enricher.max_tokens), 0)
    return found


def chunks_of(document: Document) -> list[Chunk]:
    chunker = chunkers.build("recursive", size=12, counter=counter("words"))
    return cut(document, chunker.split(document), counter("words"), size=12)


@functools.cache
def structured() -> Document:
    heads = [(TEXT.index(word), word) for word in ("Ferries", "Crew")]
    blocks = [Block("heading", at, at + len(word), 1) for at, word in heads]
    return Document("ferries.md", TEXT, tuple(blocks), title="Ferries of the harbour")


@pytest.mark.parametrize("name", enrichers.own)
@pytest.mark.parametrize("counts", COUNTERS)
@settings(deadline=None, max_examples=15)
@given(document=documents(), rooms=st.integers(-2, 20), most=st.integers(0, 20))
def test_what_is_said_fits(
    name: str, counts: str, document: Document, rooms: int, most: int
) -> None:
    check(build(name, counts, max_tokens=most), document, rooms)


@pytest.mark.parametrize("name", enrichers.own)
def test_hard_texts(name: str) -> None:
    for text in TEXTS:
        check(build(name), Document("hard", text, title=text))


@pytest.mark.parametrize("name", enrichers.own)
def test_something_is_said_and_no_tokens_say_nothing(name: str) -> None:
    assert any(check(build(name), structured()))
    assert not any(check(build(name, max_tokens=0), structured()))
    assert not any(check(build(name), structured(), rooms=0))


@pytest.mark.parametrize("chunker", chunkers.own)
@pytest.mark.parametrize("name", enrichers.own)
def test_spans_and_texts_stay_whatever_is_said(chunker: str, name: str) -> None:
    document, chunks = structured(), cut_by(chunker)
    forms = forms_of({name: build(name)}).of(document, chunks)
    assert chunks == cut_by(chunker)
    for chunk, form in zip(chunks, forms, strict=True):
        assert document.text[slice(*chunk.span)] == chunk.text
        assert form.text == chunk.text or form.text.endswith(f"\n{chunk.text}")


@pytest.mark.parametrize("chunker", chunkers.own)
def test_a_form_is_never_too_long_for_the_embedder(chunker: str) -> None:
    forms = forms_of({name: build(name) for name in enrichers.own})
    chunks = cut_by(chunker, size=28)
    made = forms.of(structured(), chunks)
    assert any(form.text != chunk.text for form, chunk in zip(made, chunks, strict=True))
    for form in made:
        assert counter("words").count(form.text) <= LIMIT


def forms_of(parts: Mapping[str, Enricher]) -> Forms:
    embedder = HashingEmbedder(max_tokens=LIMIT)
    return Forms(counter("words"), parts, NoSituator(embedder=embedder))


def cut_by(name: str, size: int = 12) -> Sequence[Chunk]:
    chunker = chunking_cases.build(name, size=size, overlap=0, counter=counter("words"))
    return cut(structured(), chunker.split(structured()), counter("words"), size=size)


@pytest.mark.parametrize("name", enrichers.own)
@pytest.mark.parametrize(
    "line", ["x" * 1_000_000, "some words in one line, " * 20_000, "\u4e00\u4e8c\u4e09" * 100_000]
)
def test_a_long_line_takes_less_than_five_seconds(name: str, line: str) -> None:
    chunks = [Chunk("", line[a : a + 800], Span(a, a + 800), 200) for a in range(0, len(line), 800)]
    document, enricher = Document("long", line), build(name)
    began = time.process_time()
    enricher.enrich(document, chunks, [1000] * len(chunks))
    enricher.enrich(document, [Chunk("", line, Span(0, len(line)), 1)], [1000])
    assert time.process_time() - began < 5


@pytest.mark.parametrize("name", enrichers.own)
def test_options_are_checked(name: str) -> None:
    with pytest.raises(ConfigError, match=r"`max_tokens` must be a whole number, at least 0, got"):
        build(name, max_tokens=-1)
    with pytest.raises(ConfigError, match="max_tokens"):
        build(name, max_token=3)


def test_a_model_writes_questions_if_asked_to() -> None:
    model = ScriptedModel(["1. What does a child", " pay?\n- Who repairs it?\nNo question.\n"])
    chunks = chunks_of(structured())[:1]
    enricher = enrichers.build(
        {"name": "questions", "write": True},
        counter=counter("words"),
        segmenter=SimpleSegmenter(),
        model=model,
    )
    assert enricher.enrich(structured(), chunks, [1000]) == [
        ("What does a child pay?", "Who repairs it?")
    ]
    assert chunks[0].text in model.prompts[0].segments[0].text
    with pytest.raises(ConfigError, match="needs a language model: set `model`"):
        build("questions", write=True)
