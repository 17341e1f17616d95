import pytest

from chunkwise.rag.parsing import parse
from tests.rag.parsing.helpers import read


def test_every_kind_of_block():
    text = (
        "# One *two*\n\nText\nmore.\n\nSub\n---\n\n- a\n  - b\n\n    c\n- d\n\n> q\n> r\n\n"
        "```py x\ncode\n```\n\n    indented\n\n1. e\n"
    )
    assert read(text, "a.md") == [
        ("heading", 1, "# One *two*"),
        ("paragraph", 0, "Text\nmore."),
        ("heading", 2, "Sub\n---"),
        ("list_item", 1, "- a"),
        ("list_item", 2, "- b"),
        ("paragraph", 0, "c"),
        ("list_item", 1, "- d"),
        ("quote", 0, "> q\n> r"),
        ("code", 0, "```py x\ncode\n```"),
        ("code", 0, "indented"),
        ("list_item", 1, "1. e"),
    ]
    document = parse(text.encode(), name="a.md")
    assert document.title == "One two"
    assert [b.name for b in document.blocks if b.name] == ["One two", "Sub", "py"]


def test_table_rows_with_the_line_of_dashes_as_header():
    text = "x\n\n| a | b |\n|---|:-:|\n| 1 | 2 |\n| 3 | 4 |\n\ny"
    document = parse(text.encode(), name="a.md")
    table = document.blocks[1]
    assert [text[a:b] for a, b in table.rows] == [
        "| a | b |",
        "|---|:-:|",
        "| 1 | 2 |",
        "| 3 | 4 |",
    ]
    assert table.header_rows == 2


def test_front_matter_is_metadata():
    document = parse(
        b"---\ntitle: 'My doc'\nauthor: Ann\ntags:\n  - x\n---\n\nText.\n", name="a.md"
    )
    assert document.title == "My doc"
    assert document.metadata == {"title": "My doc", "author": "Ann"}
    assert read("---\ntitle: T\n---\nText.\n", "a.md") == [("paragraph", 0, "Text.")]


def test_a_rule_is_no_front_matter():
    assert read("---\n\nText.\n\n---\n", "a.md") == [("paragraph", 0, "Text.")]


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("# A [link](http://x.y/z) here #", "A link here"),
        ("## `code` and **bold**", "code and bold"),
        ("# snake_case_name", "snake_case_name"),
        ("# C#", "C#"),
    ],
)
def test_names_of_headings_have_no_markup(line, title):
    assert parse(line.encode(), name="a.md").blocks[0].name == title


def test_link_definitions_and_deep_nesting_are_kept():
    assert read("[a]: http://x.y\n", "a.md") == [("paragraph", 0, "[a]: http://x.y")]
    deep = "".join("  " * i + f"- word{i}\n" for i in range(200))
    document = parse(deep.encode(), name="a.md")
    covered = " ".join(document.text[b.start : b.end] for b in document.blocks)
    assert all(f"word{i}" in covered for i in range(200))
