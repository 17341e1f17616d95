import pytest

from chunkwise.rag.parsing import parse
from tests.rag.parsing.helpers import read


def test_paragraphs_and_lists():
    assert read("One\ntwo.\n\n\n - a\n   more\n - b\n    * c\n\nEnd: \n1. x\n2. y\n", "a.txt") == [
        ("paragraph", 0, "One\ntwo."),
        ("list_item", 1, "- a\n   more"),
        ("list_item", 1, "- b"),
        ("list_item", 2, "* c"),
        ("paragraph", 0, "End: \n1. x\n2. y"),
    ]


def test_underlined_headings_get_levels_in_order_of_use():
    text = "=====\nTitle\n=====\n\nOne\n---\nText here.\n\nTwo\n---\n\nSub\n~~~~~\n\nText.\n"
    assert [(k, level) for k, level, _ in read(text, "a.rst")] == [
        ("heading", 1),
        ("heading", 2),
        ("paragraph", 0),
        ("heading", 2),
        ("heading", 3),
        ("paragraph", 0),
    ]
    assert parse(text.encode(), name="a.rst").title == "Title"


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("1. Introduction", 1),
        ("1.2 Related Work", 2),
        ("3.1.4 Results", 3),
        ("Chapter 7", 1),
        ("CHAPTER II. The Pool of Tears", 1),
        ("Appendix A: Proofs", 1),
    ],
)
def test_numbered_headings(line, level):
    kinds = read(f"Some text.\n\n{line}\n\nMore text.\n", "a.txt")
    assert kinds[1] == ("heading", level, line)


@pytest.mark.parametrize(
    "text",
    [
        "1. Buy milk\n\n2. Buy bread\n\n3. Go home\n",
        "In\n\n1984 was a good year for all.\n\nEnd",
        "x\n\n3.5 kg of flour\n\ny",
        "x\n\n12 Angry men came in, and they were many,\n\ny",
        "name | age\n-----+-----\nAnn  | 30\n",
        "A very long line of text\n---\n",
        "part of it was lost\n\nx",
    ],
)
def test_what_is_no_heading(text):
    assert all(kind != "heading" for kind, _, _ in read(text, "a.txt"))


def test_rest_code_blocks():
    text = "Example::\n\n    x = 1\n\n    y = 2\n\n.. code-block:: python\n\n    z\n\nEnd.\n"
    assert [(k, t) for k, _, t in read(text, "a.rst")] == [
        ("paragraph", "Example::"),
        ("code", "    x = 1"),
        ("code", "    y = 2"),
        ("paragraph", ".. code-block:: python"),
        ("code", "    z"),
        ("paragraph", "End."),
    ]


@pytest.mark.parametrize("piece", ["word ", "x" * 50, "a \n", " ", "-", "=\n", "- a\n", "1. A\n\n"])
def test_cost_is_linear(piece):
    text = "a" + piece * (200_000 // len(piece))
    assert parse(text.encode(), name="a.txt").text == text
