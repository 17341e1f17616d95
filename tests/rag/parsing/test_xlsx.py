"""Workbooks: cells as people read them, tables where they are, headers known."""

import datetime
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook
from openpyxl.comments import Comment

from chunkwise.rag.parsing.xlsx import XlsxParser
from chunkwise.types import Document


def parsed(book: Workbook) -> Document:
    buffer = io.BytesIO()
    book.save(buffer)
    return XlsxParser().parse(buffer.getvalue(), name="a.xlsx")


def book_of(cells: dict[str, Any], formats: dict[str, str] | None = None) -> Workbook:
    book = Workbook()
    sheet = book.active
    sheet.title = "S"
    for place, value in cells.items():
        sheet[place] = value
        if formats and place in formats:
            sheet[place].number_format = formats[place]
    return book


def tables(document: Document) -> list[str]:
    return [document.text[b.start : b.end] for b in document.blocks[1:]]


@pytest.mark.parametrize(
    ("value", "code", "text"),
    [
        (datetime.date(2024, 2, 29), "dd/mm/yyyy", "2024-02-29"),
        (datetime.datetime(2024, 2, 29, 14, 5), "yyyy-mm-dd hh:mm", "2024-02-29 14:05"),
        (datetime.time(9, 30), "hh:mm", "09:30"),
        (datetime.timedelta(hours=27, minutes=30), "[h]:mm", "27:30"),
        (45351, "[$-407]d. mmmm yyyy;@", "2024-02-29"),
        (0.125, "0.0%", "12.5%"),
        (0.12345, "0%", "12.345%"),
        (1234.5, '"$"#,##0.00', "$1234.50"),
        (1234.5, "#,##0.00 [$€-407]", "1234.50 €"),
        (0.1 + 0.2, "General", "0.3"),
        (45123.0, "General", "45123"),
        (7, '0 "days"', "7"),
        (True, "General", "TRUE"),
        ("2024", "General", "2024"),
        (1e-7, "General", "0.0000001"),
        (-5, "0;[Red]-0", "-5"),
    ],
)
def test_values_are_written_as_people_read_them(value: Any, code: str, text: str) -> None:
    assert tables(parsed(book_of({"A1": "x", "B1": value}, {"B1": code}))) == [f"x | {text}"]


def test_sheets_are_pages_under_their_names() -> None:
    book = book_of({"A1": "one"})
    book.create_sheet("Leer")
    book.create_sheet("T")["C7"] = "two"
    document = parsed(book)
    assert document.text == "S\n\none\n\nLeer\n\nT\n\ntwo"
    assert [b.page for b in document.blocks] == [1, 1, 2, 3, 3]
    assert len(document.pages) == 3


def test_blank_rows_part_tables_but_not_the_rows_of_one() -> None:
    rows = {"A1": "Report", "A2": "k", "B2": "n", "A3": "a", "B3": 1, "A5": "b", "B5": 2}
    other = {"A8": "p", "B8": "q", "C8": "r", "A9": 1, "B9": 2, "C9": 3}
    document = parsed(book_of(rows | other))
    assert tables(document) == ["Report", "k | n\na | 1\nb | 2", "p | q | r\n1 | 2 | 3"]
    assert [b.header_rows for b in document.blocks] == [0, 0, 1, 1]


def test_a_spacer_column_is_left_out_and_a_table_beside_is_apart() -> None:
    statement = {"A2": "Sales", "A3": "Cost", "C1": "2023", "E1": "2022"}
    numbers = {"C2": 5, "E2": 4, "C3": 3, "E3": 2}
    assert tables(parsed(book_of(statement | numbers))) == [
        "| 2023 | 2022\nSales | 5 | 4\nCost | 3 | 2"
    ]
    left = {f"{c}{r}": f"{c}" if r == 1 else r for c in "AB" for r in range(1, 6)}
    right = {f"{c}{r}": f"{c}" if r == 3 else r for c in "DE" for r in range(3, 6)}
    assert tables(parsed(book_of(left | right))) == [
        "A | B\n2 | 2\n3 | 3\n4 | 4\n5 | 5",
        "D | E\n4 | 4\n5 | 5",
    ]


def test_formulas_without_a_result_are_shown_with_a_warning() -> None:
    document = parsed(book_of({"A1": 1, "B1": "=A1+1"}))
    assert tables(document) == ["1 | =A1+1"]
    assert "1 formulas" in document.warnings[0]


def test_merged_cells_have_their_text_once_and_comments_are_notes() -> None:
    book = book_of({"A1": "wide", "C1": "c", "A2": 1, "B2": 2, "C2": 3})
    book.active.merge_cells("A1:B1")
    book.active["C2"].comment = Comment("checked", "Ann")
    assert tables(parsed(book)) == ["wide |  | c\n1 | 2 | 3", "Comment on C2: checked"]


def test_cells_far_apart_make_no_huge_text() -> None:
    book = book_of({})
    for i in range(1, 1500):
        book.active.cell(i, 1, value=i)
        book.active.cell(i, i + 1, value=i)
    document = parsed(book)
    assert len(document.text) < 30_000
    assert "far apart" in document.warnings[0]


grids = st.lists(
    st.lists(st.one_of(st.none(), st.integers(-9, 9), st.text("abc", min_size=1)), max_size=4),
    max_size=6,
)


@settings(deadline=None, max_examples=60)
@given(grids)
def test_every_cell_is_in_the_text_once_and_in_order(grid: list[list[Any]]) -> None:
    book = Workbook()
    book.active.title = "S"
    for row in grid:
        book.active.append(row)
    document = parsed(book)
    body = document.text.removeprefix("S").replace("|", " ").split()
    expected = [str(v) for row in grid for v in row if v is not None]
    assert sorted(body) == sorted(expected)
    for block in document.blocks:
        for row in block.rows:
            assert block.start <= row.start <= row.end <= block.end
