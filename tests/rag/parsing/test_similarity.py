"""Our text of real files against a reference: no word is lost, added or out of order.

To add a file: put it and `NAME.expected.md` in tests/data/parsing, name its origin in
SOURCES.md there, and add a row here.
"""

import difflib
import html
import re
from pathlib import Path

import pytest

from chunkwise.rag.parsing import parse

FOLDER = Path(__file__).parents[2] / "data" / "parsing"
# (file, least similarity of the words, from 0 to 1); below 1, the reason stands beside it.
CASES = [
    ("csv-comma-in-cell.csv", 1.0),
    ("csv-inconsistent-header.csv", 1.0),
    ("csv-semicolon.csv", 1.0),
    ("csv-too-many-columns.csv", 1.0),
    ("docx_code_blocks.docx", 1.0),
    ("docx_lists.docx", 1.0),
    ("docx_rich_cells.docx", 0.97),  # the reference parts H2O and x2 into words
    ("ending_with_table.md", 1.0),
    ("example_03.html", 1.0),
    ("example_04.html", 1.0),
    ("html_code_snippets.html", 0.98),  # code is joined to the word before it, as shown
    ("html_rich_table_cells.html", 0.89),  # the reference leaves out table captions
    ("inline_and_formatting.md", 1.0),
    ("mixed.md", 1.0),
    ("nested.md", 1.0),
    ("pptx_chart.pptx", 0.79),  # the reference leaves out the values of one chart
    ("table_05.html", 1.0),
    ("text_document_01.odt", 0.98),  # the reference parts X2 and Y2 into words
    ("unit_test_headers_numbered.docx", 1.0),
    ("word_tables.docx", 0.9),  # the reference repeats merged cells
    ("xlsx_05_table_with_title.xlsx", 1.0),
]


def words(text: str) -> list[str]:
    """Words without mark-up, link targets, comments and tags."""
    text = re.sub(r"<!--.*?-->", " ", text, flags=re.S)
    target = r"\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\)"
    text = re.sub(rf"!\[[^\]]*\]{target}", " ", text)
    text = re.sub(rf"\]{target}", "] ", text)
    text = re.sub(r"<[a-zA-Z/][^<>]*>", " ", text)
    return re.findall(r"[^\W_]+", html.unescape(text).lower())


def similarity(text: str, expected: str) -> float:
    """Share of the words that both have in the same order, from 0 to 1."""
    return difflib.SequenceMatcher(None, words(text), words(expected), autojunk=False).ratio()


@pytest.mark.parametrize(("name", "minimum"), CASES)
def test_text_is_like_the_reference(name, minimum):
    document = parse((FOLDER / name).read_bytes(), name=name)
    expected = (FOLDER / f"{name}.expected.md").read_text(encoding="utf-8")
    assert similarity(document.text, expected) >= minimum


def test_every_reference_has_a_row():
    held = {path.name.removesuffix(".expected.md") for path in FOLDER.glob("*.expected.md")}
    assert held == {name for name, _ in CASES}
