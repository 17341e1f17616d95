"""Slides: pages in order, reading order by place, lists, tables, charts, notes."""

import io

from pptx import Presentation
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from chunkwise.rag.parsing.pptx import PptxParser
from chunkwise.rag.parsing.slides import Place, Shape, in_reading_order
from chunkwise.types import Document


def parsed(file: object) -> Document:
    buffer = io.BytesIO()
    file.save(buffer)  # type: ignore[attr-defined]
    return PptxParser().parse(buffer.getvalue(), name="a.pptx")


def add_box(shapes: object, text: str, left: float, top: float, height: float = 0.4) -> None:
    box = shapes.add_textbox(Inches(left), Inches(top), Inches(2), Inches(height))  # type: ignore[attr-defined]
    box.text_frame.text = text


def texts(document: Document) -> list[str]:
    return [document.text[b.start : b.end] for b in document.blocks]


def test_a_slide_is_a_page_with_title_list_and_notes() -> None:
    file = Presentation()
    for number in (1, 2):
        slide = file.slides.add_slide(file.slide_layouts[1])
        slide.shapes.title.text = f"Slide {number}"
        frame = slide.placeholders[1].text_frame
        frame.text = "first"
        deeper = frame.add_paragraph()
        deeper.text, deeper.level = "second", 1
        slide.notes_slide.notes_text_frame.text = "Say hello."
    document = parsed(file)
    assert [(b.kind, b.level, b.page) for b in document.blocks] == [
        (kind, level, page)
        for page in (1, 2)
        for kind, level in (("heading", 1), ("list_item", 1), ("list_item", 2), ("note", 0))
    ]
    assert document.text.startswith("Slide 1\n\n- first\n- second\n\nSay hello.")
    assert len(document.pages) == 2
    assert document.title == "Slide 1"
    assert document.pages[1].end == len(document.text)


def test_boxes_are_read_by_their_place_and_groups_together() -> None:
    file = Presentation()
    shapes = file.slides.add_slide(file.slide_layouts[6]).shapes
    add_box(shapes, "bottom", 1, 5)
    add_box(shapes, "right", 5, 1)
    add_box(shapes, "left", 1, 1.05)
    group = shapes.add_group_shape()
    add_box(group.shapes, "grouped two", 1, 3.5)
    add_box(group.shapes, "grouped one", 1, 3)
    document = parsed(file)
    assert texts(document) == ["left", "right", "grouped one", "grouped two", "bottom"]
    (box,) = document.blocks[0].boxes
    assert box[:3] == (1, 72.0, 75.6)


def test_a_tall_box_beside_several_stands_before_or_after_them_all() -> None:
    def shape(x: float, y0: float, y1: float) -> Shape:
        return Shape(None, "sp", place=Place(x, y0, x + 100, y1))  # type: ignore[arg-type]

    tall = shape(0, 10, 300)
    small = [shape(200, y, y + 40) for y in (12, 90, 180)]
    assert in_reading_order([*small[::-1], tall]) == [tall, *small]


def test_tables_and_charts_become_tables() -> None:
    file = Presentation()
    shapes = file.slides.add_slide(file.slide_layouts[6]).shapes
    table = shapes.add_table(2, 3, Inches(1), Inches(1), Inches(4), Inches(1)).table
    for i, text in enumerate("abc"):
        table.cell(0, i).text = text
    table.cell(1, 0).merge(table.cell(1, 1))
    table.cell(1, 0).text, table.cell(1, 2).text = "wide", "d"
    data = CategoryChartData()
    data.categories = ["Q1", "Q2"]
    data.add_series("Ducks", (1.5, 2))
    place = Inches(1), Inches(3), Inches(4), Inches(3)
    chart = shapes.add_chart(XL_CHART_TYPE.LINE, *place, data).chart
    chart.has_title = True
    chart.chart_title.text_frame.text = "Counted"
    document = parsed(file)
    assert texts(document) == ["a | b | c\nwide |  | d", "Counted", "| Ducks\nQ1 | 1.5\nQ2 | 2"]
    assert [b.header_rows for b in document.blocks] == [1, 0, 1]
