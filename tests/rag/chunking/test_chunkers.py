"""What each chunker does beyond what all of them promise."""

from __future__ import annotations

import itertools

import pytest

from chunkwise.errors import ConfigError
from chunkwise.rag.chunking import Chunker, chunkers
from chunkwise.rag.counting import named_counter
from chunkwise.types import Block, BlockKind, Document, Span
from tests.conformance.chunking_cases import counter
from tests.fakes import HashingEmbedder, SimpleSegmenter, UndecidedModel, WordScorer

WORDS = named_counter("words")


def texts(chunker: Chunker, document: Document | str) -> list[str]:
    document = Document("d", document) if isinstance(document, str) else document
    return [document.text[a:b] for a, b in chunker.split(document)]


def build(name: str, **options: object) -> Chunker:
    return chunkers.build(
        {"name": name, **options},
        counter=WORDS,
        segmenter=SimpleSegmenter(),
        embedder=HashingEmbedder(),
        scorer=WordScorer(),
        model=UndecidedModel(),
    )


def document(*parts: tuple[BlockKind, str]) -> Document:
    """Blocks with a blank line between; a table's rows are its lines, the first a header."""
    blocks, text = [], ""
    for kind, body in parts:
        start, rows = len(text), []
        for line in body.split("\n") if kind == "table" else []:
            rows.append(Span(len(text), len(text) + len(line)))
            text += line + "\n"
        text = text if rows else text + body + "\n"
        end = len(text) - 1
        level = 1 if kind == "heading" else 0
        header_rows = 1 if rows else 0
        blocks.append(Block(kind, start, end, level, rows=tuple(rows), header_rows=header_rows))
        text += "\n"
    return Document("d", text, tuple(blocks))


def test_fixed_takes_exactly_size_tokens() -> None:
    text = " ".join(f"w{n}" for n in range(10))
    assert texts(build("fixed", size=4), text) == ["w0 w1 w2 w3", "w4 w5 w6 w7", "w8 w9"]
    assert texts(build("fixed", size=4, overlap=1), text) == [
        "w0 w1 w2 w3",
        "w3 w4 w5 w6",
        "w6 w7 w8 w9",
    ]


def test_fixed_counts_the_overlap_without_its_leading_blank() -> None:
    """Byte pairs join a blank to the word behind it: without the blank it can be longer."""
    table = "| a | b |\n| a | b |\n| 1 | two words |\n| a | b |"
    pairs = counter("bpe")
    chunker = chunkers.build("fixed", size=20, overlap=5, counter=pairs)
    for before, after in itertools.pairwise(chunker.split(Document("d", table))):
        assert pairs.count(table[after.start : before.end]) <= 5


def test_recursive_keeps_what_fits_in_one_piece() -> None:
    assert texts(build("recursive", size=9), "A b c.\n\nD e f.\n") == ["A b c.\n\nD e f."]


def test_recursive_cuts_paragraphs_before_sentences() -> None:
    text = "One two. Three four.\n\nFive six. Seven eight."
    assert texts(build("recursive", size=5), text) == [
        "One two. Three four.",
        "Five six. Seven eight.",
    ]


def test_recursive_leaves_no_tiny_last_chunk() -> None:
    text = " ".join(f"w{n}" for n in range(21))
    sizes = [len(t.split()) for t in texts(build("recursive", size=20), text)]
    assert sum(sizes) == 21
    assert min(sizes) >= 6


def test_recursive_fill_decides_between_even_and_whole() -> None:
    text = "One two.\n\n" + "Three four five six seven eight. " * 3
    assert texts(build("recursive", size=10, fill=0.0), text)[0] == "One two."
    assert texts(build("recursive", size=10, fill=0.5), text)[0].endswith("seven eight.")
    with pytest.raises(ConfigError, match="fill"):
        build("recursive", fill=1.5)


def test_overlap_starts_at_a_word_and_repeats_no_more_than_asked() -> None:
    text = " ".join(f"w{n}" for n in range(30))
    chunks = texts(build("recursive", size=10, overlap=3), text)
    for before, after in itertools.pairwise(chunks):
        shared = set(before.split()) & set(after.split())
        assert len(shared) == 3


def test_sentence_never_cuts_a_sentence_that_fits() -> None:
    text = "One two three. Four five. Six seven eight nine. Ten."
    assert texts(build("sentence", size=5), text) == [
        "One two three. Four five.",
        "Six seven eight nine. Ten.",
    ]


def test_structural_without_blocks_equals_recursive() -> None:
    text = "One two. Three four.\n\nFive six. Seven eight.\n\n" * 6
    for size in (3, 7, 30):
        assert texts(build("structural", size=size), text) == texts(
            build("recursive", size=size), text
        )


def test_structural_keeps_sections_apart_and_headings_with_their_text() -> None:
    found = texts(
        build("structural", size=50),
        document(
            ("heading", "Top"),
            ("heading", "First"),
            ("paragraph", "Some text."),
            ("paragraph", "More text."),
            ("heading", "Second"),
            ("paragraph", "Other text."),
        ),
    )
    assert found == ["Top\n\nFirst\n\nSome text.\n\nMore text.", "Second\n\nOther text."]


def test_structural_cuts_tables_by_rows_and_counts_the_repeated_header() -> None:
    rows = "\n".join(["name value", *(f"r{n} v{n}" for n in range(6))])
    found = texts(build("structural", size=7), document(("table", rows)))
    assert found[0] == "name value\nr0 v0\nr1 v1"
    assert all(len(chunk.split()) <= 5 for chunk in found[1:])
    assert all(len(line.split()) == 2 for chunk in found for line in chunk.split("\n"))


def test_structural_keeps_a_list_together() -> None:
    found = texts(
        build("structural", size=12),
        document(
            ("paragraph", "one two three four five six"),
            ("paragraph", "take these:"),
            ("list_item", "- a"),
            ("list_item", "- b"),
            ("list_item", "- c"),
        ),
    )
    assert found == ["one two three four five six", "take these:\n\n- a\n\n- b\n\n- c"]


def test_structural_cuts_code_between_definitions() -> None:
    found = texts(
        build("structural", size=8),
        document(("definition", "def f(): return 1"), ("definition", "def g(): return 2 + 3 + 4")),
    )
    assert found == ["def f(): return 1", "def g(): return 2 + 3 + 4"]


@pytest.mark.parametrize("name", ["semantic", "cluster"])
def test_embedding_chunkers_cut_where_the_subject_changes(name: str) -> None:
    cats = "Cats purr softly cats sleep. Cats hunt mice cats purr. Cats sleep mice cats. "
    stocks = "Stocks fell market shares. Market shares rose stocks. Shares stocks fell market. "
    options = {"piece_size": 5} if name == "cluster" else {"window": 1}
    found = texts(build(name, size=40, **options), cats + stocks)
    assert found == [cats.strip(), stocks.strip()]


def test_semantic_and_cluster_options_are_checked() -> None:
    for name, option in (
        ("semantic", "window"),
        ("semantic", "percentile"),
        ("cluster", "piece_size"),
    ):
        with pytest.raises(ConfigError, match=option):
            build(name, **{option: -1})


def test_recursive_leaves_a_heading_with_what_follows() -> None:
    parts = document(
        ("paragraph", "one two three four five six"),
        ("heading", "Title"),
        ("paragraph", "seven eight nine ten eleven twelve"),
    )
    assert texts(build("recursive", size=8), parts) == [
        "one two three four five six",
        "Title\n\nseven eight nine ten eleven twelve",
    ]
