"""`table`: tables apart, by whole rows behind repeated headers, with their captions."""

from __future__ import annotations

import time

from chunkwise.rag.chunking import chunkers, cut
from chunkwise.rag.counting import named_counter
from chunkwise.rag.parsing import parse
from chunkwise.types import Block, Chunk, Document, Span

WORDS = named_counter("words")
WIDE = "".join(
    f"| row {i} | " + " | ".join(f"c{i}{j}" for j in range(4)) + " |\n" for i in range(8)
)
HEADER = "| name | a | b | c | d |\n|---|---|---|---|---|\n"
PROSE = "Some words stand before the table and say what it shows."


def chunks(text: str, **options: object) -> list[Chunk]:
    document = parse(text.encode(), name="a.md")
    chunker = chunkers.build({"name": "table", **options}, counter=WORDS)
    return cut(document, chunker.split(document), WORDS, size=chunker.size)


def test_a_wide_table_is_cut_by_whole_rows_behind_its_header() -> None:
    found = chunks(f"# T\n\n{PROSE}\n\n{HEADER}{WIDE}\nAfter it.\n", size=60)
    first, *tables, last = found
    assert first.text == f"# T\n\n{PROSE}"
    assert last.text == "After it."
    assert "\n".join(c.text for c in tables) == (HEADER + WIDE).strip()
    assert all(c.text.startswith("|") and c.text.endswith("|") for c in tables)
    assert {c.header for c in tables} == {"", HEADER.strip()}
    assert all(WORDS.count(f"{c.header}\n{c.text}") <= 60 for c in tables)


def test_a_small_table_may_stand_with_text_unless_told_not_to() -> None:
    text = f"{PROSE}\n\n{HEADER}| x | 1 | 2 | 3 | 4 |\n\nAfter it.\n"
    assert len(chunks(text, size=100, small=0.5)) == 1
    assert [c.text[:5] for c in chunks(text, size=100, small=0.0)] == ["Some ", "| nam", "After"]


def test_a_heading_goes_with_the_table_below_it() -> None:
    found = chunks(f"{PROSE}\n\n## Figures\n\n{HEADER}{WIDE}", size=60, small=0.0)
    assert found[1].text.startswith("## Figures\n\n| name")


def captioned(*kinds: str) -> Document:
    """A block a kind; a table has a header and six rows of two words each."""
    blocks, text = [], ""
    for kind in kinds:
        start, rows = len(text), []
        for line in ["h1 h2", *(f"r{i} s{i}" for i in range(6))] if kind == "table" else []:
            rows.append(Span(len(text), len(text) + len(line)))
            text += line + "\n"
        text = text[:-1] if rows else text + f"a {kind}"
        header = 1 if rows else 0
        blocks.append(Block(kind, start, len(text), rows=tuple(rows), header_rows=header))  # type: ignore[arg-type]
        text += "\n\n"
    return Document("d", text, tuple(blocks))


def split(document: Document, **options: object) -> list[str]:
    chunker = chunkers.build({"name": "table", **options}, counter=WORDS)
    return [document.text[a:b] for a, b in chunker.split(document)]


def test_captions_stay_with_their_tables_above_or_below() -> None:
    above = split(captioned("paragraph", "caption", "table"), size=12)
    assert above[0] == "a paragraph"
    assert above[1].startswith("a caption\n\nh1 h2\nr0 s0")
    below = split(captioned("table", "caption", "paragraph"), size=12)
    assert below[-1] == "a paragraph"
    assert below[-2].endswith("s5\n\na caption")
    between = split(captioned("table", "caption", "table"), size=12)
    assert any(c.startswith("a caption\n\nh1 h2") for c in between)


def test_a_row_that_is_too_long_is_cut_between_its_cells() -> None:
    cells = " | ".join(f"cell {i} of it" for i in range(12))
    found = chunks(f"| n |\n|---|\n| {cells} |\n", size=24, small=0.0)
    inner = [c.text for c in found if "cell" in c.text]
    assert len(inner) > 1
    assert all(text.startswith(("|", "cell")) for text in inner)


def test_text_repeats_nothing_of_a_table() -> None:
    text = f"{PROSE}\n\n{HEADER}{WIDE}\n" + "More words follow it here. " * 10
    for chunk in chunks(text, size=40, overlap=10, small=0.0):
        assert ("|" in chunk.text) != ("ords" in chunk.text)


def test_without_tables_it_is_structural() -> None:
    document = parse(f"# A\n\n{PROSE}\n\n- x\n- y\n\n# B\n\n{PROSE * 4}\n".encode(), name="a.md")
    spans = chunkers.build("structural", size=15, overlap=3, counter=WORDS).split(document)
    assert chunkers.build("table", size=15, overlap=3, counter=WORDS).split(document) == spans


def test_time_grows_with_the_number_of_tables_only() -> None:
    document = captioned(*["table", "paragraph"] * 5000)
    start = time.process_time()
    found = split(document, size=12, small=0.0)
    assert time.process_time() - start < 5
    assert len(found) == 15_000
