"""`cut`: what a chunk knows of its document."""

from __future__ import annotations

from chunkwise.rag.chunking import cut
from chunkwise.rag.counting import named_counter
from chunkwise.types import Block, Document, Span, content_id

WORDS = named_counter("words")


def blocks_of(text: str, *parts: tuple[str, str, int]) -> tuple[Block, ...]:
    found, at = [], 0
    for kind, body, level in parts:
        start = text.index(body, at)
        at = start + len(body)
        found.append(Block(kind, start, at, level))  # type: ignore[arg-type]
    return tuple(found)


TEXT = "Intro.\n\n# Top\n\nOne.\n\n## Left\n\nTwo.\n\n## Right\n\nThree.\n\nNew\n===\n\nFour."
DOCUMENT = Document(
    "d",
    TEXT,
    blocks_of(
        TEXT,
        ("paragraph", "Intro.", 0),
        ("heading", "# Top", 1),
        ("paragraph", "One.", 0),
        ("heading", "## Left", 2),
        ("paragraph", "Two.", 0),
        ("heading", "## Right", 2),
        ("paragraph", "Three.", 0),
        ("heading", "New\n===", 1),
        ("paragraph", "Four.", 0),
    ),
)


def at(piece: str) -> Span:
    start = TEXT.index(piece)
    return Span(start, start + len(piece))


def headings(piece: str) -> tuple[str, ...]:
    return cut(DOCUMENT, [at(piece)], WORDS)[0].headings


def test_headings_in_force_are_those_before_the_chunk_by_level() -> None:
    assert headings("Intro.") == ()
    assert headings("One.") == ("Top",)
    assert headings("Two.") == ("Top", "Left")
    assert headings("Three.") == ("Top", "Right")
    assert headings("Four.") == ("New",)


def test_a_chunk_that_starts_with_a_heading_is_under_its_parents_only() -> None:
    assert headings("# Top") == ()
    assert headings("## Left") == ("Top",)
    assert headings("## Right") == ("Top",)
    assert headings("New\n===") == ()


def test_text_id_tokens() -> None:
    (chunk,) = cut(DOCUMENT, [at("Two.\n\n## Right")], WORDS)
    assert chunk.text == "Two.\n\n## Right"
    assert chunk.tokens == 3
    assert chunk.id == content_id(chunk.text)


def test_pages() -> None:
    text = "one two three"
    document = Document("d", text, pages=(Span(0, 3), Span(3, 3), Span(4, 7), Span(8, 13)))
    spans = [Span(0, 3), Span(0, 5), Span(4, 13), Span(8, 9)]
    assert [c.pages for c in cut(document, spans, WORDS)] == [(1, 1), (1, 3), (3, 4), (4, 4)]
    assert cut(Document("d", text), spans, WORDS)[0].pages is None


def test_table_header_is_repeated_where_a_table_is_continued() -> None:
    text = "| h | k |\n| 1 | 2 |\n| 3 | 4 |\n\nafter"
    rows = (Span(0, 9), Span(10, 19), Span(20, 29))
    document = Document("d", text, (Block("table", 0, 29, rows=rows, header_rows=1),))
    spans = [Span(0, 19), Span(20, 29), Span(31, 36)]
    assert [c.header for c in cut(document, spans, WORDS)] == ["", "| h | k |", ""]
    assert [c.header for c in cut(document, spans, WORDS, size=9)] == ["", "", ""]
    bare = Document("d", text, (Block("table", 0, 29, rows=rows),))
    assert [c.header for c in cut(bare, spans, WORDS)] == ["", "", ""]
