import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.rag.parsing import parse


def rows(text: str, name: str = "a.csv") -> tuple[list[str], int]:
    document = parse(text.encode(), name=name)
    (block,) = document.blocks
    return [document.text[a:b] for a, b in block.rows], block.header_rows


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_found(delimiter):
    text = 'name,"a, b; c|d",z\nAnn,"x\ny",1\nBob,y,2\n'.replace(",", delimiter)
    got, header = rows(text)
    inner = " ".join("a, b; c|d".replace(",", delimiter).split())
    assert got == [f"name | {inner} | z", "Ann | x y | 1", "Bob | y | 2"]
    assert header == 1


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("name,age\nAnn,30\n", 1),
        ("Ann,30\nBob,25\n", 0),
        ("city,2020,2021\nRome,1,2\n", 1),
        ("red,apple\nred,cherry\n", 0),
        ("1,2,3\na,b,c\n", 1),
        ("1,2,3\n4,5,6\n", 0),
        ("only,one\n", 0),
    ],
)
def test_header_is_told_from_data(text, header):
    assert rows(text)[1] == header


def test_uneven_rows_are_kept_and_said():
    document = parse(b"a,b,c\n1,2,3\n4,5\n6,7,8\n9,9,9,9\n", name="a.csv")
    assert "4 | 5" in document.text
    assert "9 | 9 | 9 | 9" in document.text
    assert document.warnings == ("2 rows do not have 3 cells as the others, first on line 3.",)


def test_quotation_mark_left_open_loses_nothing():
    text = 'a,b\n1,"open\n' + "2,word\n" * 30_000
    document = parse(text.encode(), name="a.csv")
    assert document.text.count("word") == 30_000


def test_shift_jis():
    data = "名前,年齢,住所\r\n佐藤太郎,30,東京\r\n".encode("cp932")
    assert parse(data, name="a.csv").text == "名前 | 年齢 | 住所\n佐藤太郎 | 30 | 東京"


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), min_size=1, max_size=6)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=6))
def test_all_cells_of_a_written_table_come_back(table):
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([["one", "two", "three"], *table])
    text = parse(buffer.getvalue().encode(), name="a.csv").text
    for row in table:
        words = [" ".join(cell.split()) for cell in row]
        assert not any(words) or " | ".join(words).strip() in text.split("\n")
