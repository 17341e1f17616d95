"""Key phrases tell a chunk from its document."""

from __future__ import annotations

import dataclasses

from chunkwise.rag.counting import named_counter
from chunkwise.rag.enrichment import enrichers
from chunkwise.types import Chunk, Document, Span


def said(*texts: str, most: int = 6) -> list[tuple[str, ...]]:
    enricher = enrichers.build({"name": "keywords", "most": most}, counter=named_counter("words"))
    chunks = [Chunk("", text, Span(0, len(text)), 9) for text in texts]
    return enricher.enrich(Document("d", "\n".join(texts)), chunks, [99] * len(texts))


REST = ["The ferry left.", "A ferry came.", "This ferry is here.", "No ferry was there."]


def test_what_all_chunks_say_comes_behind_what_one_says() -> None:
    (found, *_) = said("The fuel valve of the ferry broke; a fuel valve is dear.", *REST, most=1)
    assert found == ("fuel valve",)


def test_phrases_are_spelt_as_the_chunk_spells_them_and_said_once() -> None:
    (found, *_) = said("Ada  Lovelace wrote; Ada Lovelace read 1843 and 77.", *REST)
    assert found[0] == "Ada Lovelace"
    assert not {"Ada", "Lovelace", "1843", "77"} & set(found)


def test_a_script_without_blanks_has_pairs() -> None:
    (found, *_) = said(
        "机器学习。机器学习很好。", "今天天气很好。", "我们去海边。", "他在家。", most=1
    )
    assert found in [("机器",), ("学习",), ("器学",)]


def test_a_far_edit_seldom_changes_what_is_said() -> None:
    texts = [f"Ship {word} sails to harbour {word}." for word in ["abc", "def", "ghi", "jkl"]]
    longer = [*texts, "Another paragraph of other words.", "The harbour is deep."]
    assert said(*longer)[: len(texts)] == said(*texts)


def test_the_same_chunk_says_the_same_in_any_order_of_options() -> None:
    enricher = enrichers.build("keywords", counter=named_counter("words"))
    assert dataclasses.replace(enricher) == enricher  # type: ignore[type-var]
