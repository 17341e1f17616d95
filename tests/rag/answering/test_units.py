"""Units: sentences and rows whose ranges are the text."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.rag.answering.units import units_of
from tests.fakes import SimpleSegmenter, make_hit

TABLE = "| a | b |\n|---|---|\n| c | d |\n| e | f |"


def texts(text: str, **options: object) -> list[tuple[str, bool]]:
    hit = make_hit(text, **options)  # type: ignore[arg-type]
    units = units_of([hit], SimpleSegmenter())
    return [(text[unit.start : unit.end], unit.is_row) for unit in units]


def test_a_table_between_sentences() -> None:
    assert texts(f"Before it. Here:\n{TABLE}\nAfter it.") == [
        ("Before it.", False),
        ("Here:", False),
        ("| c | d |", True),
        ("| e | f |", True),
        ("After it.", False),
    ]


def test_tab_separated_rows_have_their_first_line_as_header() -> None:
    text = "name\tprice\npen\t2\r\nink\t5"
    assert texts(text) == [("pen\t2", True), ("ink\t5", True)]
    (unit, _) = units_of([make_hit(text)], SimpleSegmenter())
    assert unit.header is not None
    assert text[slice(*unit.header)] == "name\tprice"


def test_a_continued_table_has_only_rows_even_with_one_line() -> None:
    assert texts("| c | d |", header="| a | b |\n") == [("| c | d |", True)]
    assert texts("| c | d |") == [("| c | d |", False)]


def test_a_heading_is_marked() -> None:
    hit = make_hit("Fees\nThe fee is 3.", headings=("Fees",))
    assert [unit.is_heading for unit in units_of([hit], SimpleSegmenter())] == [True, False]


@settings(deadline=None, max_examples=150)
@given(st.text(st.sampled_from("ab. |\t\n\r\u2028\x85é漢。-#"), max_size=60), st.booleans())
def test_units_are_in_order_and_cover_all_but_headers_and_rules(text: str, goes_on: bool) -> None:
    hit = make_hit(text, header="|x|y|" if goes_on else "")
    units = units_of([hit], SimpleSegmenter())
    done = 0
    for unit in units:
        assert done <= unit.start < unit.end <= len(text)
        assert text[unit.start : unit.end].strip()
        done = unit.end
    if "|" not in text and "\t" not in text:
        inside = {i for unit in units for i in range(unit.start, unit.end)}
        assert all(i in inside for i, c in enumerate(text) if not c.isspace())
