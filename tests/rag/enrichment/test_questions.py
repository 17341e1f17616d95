"""Questions by rules: in English, of statements; in any language, those that stand there."""

from __future__ import annotations

import pytest

from chunkwise.rag.counting import named_counter
from chunkwise.rag.enrichment import enrichers
from chunkwise.types import Chunk, Document, Span
from tests.fakes import SimpleSegmenter

RULES = [
    ("The Harbour Ferry is a small ship.", ["What is the Harbour Ferry?"]),
    ("Volts are one of three units.", ["What are Volts?"]),
    ("The Bridge was opened in May 1932.", ["When was the Bridge opened?"]),
    ("The lamp was invented by Edison.", ["Who was the lamp invented by?"]),
    ("A ticket costs $12.", ["How much does a ticket cost?"]),
    ("Paris has about 2,100 restaurants.", ["How many restaurants does Paris have?"]),
    ("Was kostet die Karte? Viel.", ["Was kostet die Karte?"]),
    ("船は何時に出ますか？昼に出ます。", ["船は何時に出ますか？"]),
    ("It is a small ship. They were built by Edison. This has 3 cabins.", []),
    ("the ferry sails.", []),
]


@pytest.mark.parametrize(("text", "expected"), RULES)
def test_rules(text: str, expected: list[str]) -> None:
    enricher = enrichers.build(
        "questions", counter=named_counter("words"), segmenter=SimpleSegmenter()
    )
    chunk = Chunk("", text, Span(0, len(text)), 9)
    assert enricher.enrich(Document("d", text), [chunk], [99]) == [tuple(expected)]
