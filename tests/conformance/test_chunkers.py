"""What every chunker promises, for any text, any structure and any counter."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import ConfigError
from chunkwise.rag.chunking import Chunker, chunkers, cut
from chunkwise.types import Document
from tests.conformance.chunking_cases import COUNTERS, TEXTS, any_text, build, counter, documents

SIZES = [(1, 0), (2, 1), (3, 0), (7, 2), (20, 5), (50, 0)]


def check(chunker: Chunker, document: Document) -> None:
    text, count = document.text, chunker.counter.count
    spans = chunker.split(document)
    assert spans == chunker.split(document)
    assert spans == sorted(spans)
    covered = 0
    for before, span in zip([None, *spans], spans, strict=False):
        assert 0 <= span.start < span.end <= len(text)
        assert text[span.start : span.end].strip() == text[span.start : span.end]
        assert not text[covered : span.start].strip()
        if before is not None and span.start < before.end:
            assert before.start < span.start
            assert before.end < span.end
            assert count(text[span.start : before.end]) <= chunker.overlap
        covered = max(covered, span.end)
    assert not text[covered:].strip()
    for chunk in cut(document, spans, chunker.counter, size=chunker.size):
        assert chunk.text == text[chunk.span.start : chunk.span.end]
        assert chunk.tokens == count(chunk.text)
        sent = f"{chunk.header}\n{chunk.text}" if chunk.header else chunk.text
        assert count(sent) <= chunker.size or len(chunk.text) == 1


@pytest.mark.parametrize("name", chunkers.own)
@pytest.mark.parametrize("counts", COUNTERS)
@settings(deadline=None, max_examples=12)
@given(text=any_text, sizes=st.sampled_from(SIZES))
def test_any_text(name: str, counts: str, text: str, sizes: tuple[int, int]) -> None:
    chunker = build(name, size=sizes[0], overlap=sizes[1], counter=counter(counts))
    check(chunker, Document("drawn", text))


@pytest.mark.parametrize("name", chunkers.own)
@pytest.mark.parametrize("counts", COUNTERS)
@settings(deadline=None, max_examples=12)
@given(document=documents(), sizes=st.sampled_from(SIZES))
def test_any_structure(name: str, counts: str, document: Document, sizes: tuple[int, int]) -> None:
    chunker = build(name, size=sizes[0], overlap=sizes[1], counter=counter(counts))
    check(chunker, document)


@pytest.mark.parametrize("name", chunkers.own)
@pytest.mark.parametrize("counts", COUNTERS)
def test_hard_texts(name: str, counts: str) -> None:
    chunker = build(name, size=13, overlap=4, counter=counter(counts))
    for text in TEXTS:
        check(chunker, Document("hard", text))


@pytest.mark.parametrize("name", [n for n in chunkers.own if "embedder" not in chunkers.options(n)])
@pytest.mark.parametrize("line", ["x" * 1_000_000, "some words in one line, " * 41_666])
@pytest.mark.parametrize("counts", ["minilm", "words"])
def test_a_megabyte_in_one_line_takes_less_than_five_seconds(
    name: str, line: str, counts: str
) -> None:
    chunker = build(name, size=200, overlap=0, counter=counter(counts))
    began = time.perf_counter()
    spans = chunker.split(Document("long", line))
    assert time.perf_counter() - began < 5
    assert max(counter(counts).count(line[a:b]) for a, b in spans) <= 200


def test_a_megabyte_without_a_space_keeps_the_limit_of_byte_pairs() -> None:
    line = "x" * 1_000_000
    chunker = build("recursive", size=200, overlap=0, counter=counter("bpe"))
    spans = chunker.split(Document("long", line))
    assert max(counter("bpe").count(line[a:b]) for a, b in spans) <= 200


@pytest.mark.parametrize("name", chunkers.own)
@pytest.mark.parametrize("sizes", [(0, 0), (10, 10), (10, -1)])
def test_sizes_are_checked(name: str, sizes: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        build(name, size=sizes[0], overlap=sizes[1], counter=counter("words"))


@pytest.mark.parametrize("name", chunkers.own)
def test_every_chunker_says_what_it_has(name: str) -> None:
    spec: dict[str, Any] = {"name": name, "overlapp": 1}
    with pytest.raises(ConfigError, match="overlap"):
        chunkers.build(spec, counter=counter("words"))
