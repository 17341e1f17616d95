import io
import os
import re
import string
import unicodedata
from collections import Counter
from pathlib import Path

import pypdfium2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.utils import simpleSplit
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing.geometry import Cell, Frame, Line, Style, turned
from chunkwise.rag.parsing.paragraphs import Joiner
from chunkwise.rag.parsing.pdf import PdfParser
from chunkwise.types import Document

WIDTH, HEIGHT = 612, 792
SAMPLES = Path(__file__).parents[2] / "data" / "parsing"
DATA = os.environ.get("CHUNKWISE_DATA", "")

LOREM = (
    "The committee met on the first day of spring and heard the report of its members. "
    "Every region had sent a table of its harvest, and none of them agreed with another. "
    "After a long debate it was decided to count again, this time with the same measure. "
    "Nobody could say why this had not been done before, and so the matter was closed."
)


class Page:
    """A PDF drawn line by line, with coordinates from the top left corner."""

    def __init__(self, **options: object) -> None:
        self.buffer = io.BytesIO()
        self.canvas = Canvas(self.buffer, pagesize=(WIDTH, HEIGHT), **options)

    def text(self, x: float, y: float, text: str, size: float = 10, font: str = "Times-Roman"):
        self.canvas.setFont(font, size)
        self.canvas.drawString(x, HEIGHT - y, text)

    def column(self, x: float, y: float, text: str, width: float = 220, size: float = 10) -> float:
        for line in simpleSplit(text, "Times-Roman", size, width):
            self.text(x, y, line, size)
            y += 1.2 * size
        return y

    def next(self) -> None:
        self.canvas.showPage()

    def parse(self, **options: object) -> Document:
        return PdfParser(**options).parse(self.data(), name="a.pdf")

    def data(self) -> bytes:
        self.canvas.save()
        return self.buffer.getvalue()


def texts(document: Document, kind: str) -> list[str]:
    return [document.text[b.start : b.end] for b in document.blocks if b.kind == kind]


def levels(document: Document) -> list[tuple[str, int]]:
    headings = [b for b in document.blocks if b.kind == "heading"]
    return [(document.text[b.start : b.end], b.level) for b in headings]


def test_two_columns_are_read_one_after_the_other_between_full_width_lines():
    page = Page()
    page.text(150, 60, "A Title Over Both Columns of the Page", 18, "Times-Bold")
    left, right = LOREM, LOREM.replace("committee", "council")
    page.column(60, 100, left)
    page.column(320, 100, right)
    page.text(60, 300, "A second heading that runs over both of the columns", 14, "Times-Bold")
    page.column(60, 330, left.replace("committee", "cabinet"))
    page.column(320, 330, right.replace("council", "senate"))
    document = page.parse()
    words = ("Over Both", "committee", "council", "second heading", "cabinet", "senate")
    places = [document.text.index(word) for word in words]
    assert places == sorted(places)
    assert texts(document, "paragraph")[:2] == [left, right]
    assert document.title == "A Title Over Both Columns of the Page"


def test_columns_drawn_row_by_row_are_still_columns_of_prose():
    page = Page()
    left = simpleSplit(LOREM, "Times-Roman", 10, 220)
    right = simpleSplit(LOREM.replace("committee", "council"), "Times-Roman", 10, 220)
    for i, (a, b) in enumerate(zip(left, right, strict=False)):
        page.text(60, 100 + 12 * i, a)
        page.text(320, 100 + 12 * i, b)
    document = page.parse()
    assert " ".join(left) in document.text
    assert " ".join(right) in document.text


def test_three_columns():
    page = Page()
    names = ("committee", "council", "senate")
    for i, name in enumerate(names):
        page.column(50 + 180 * i, 80, LOREM.replace("committee", name), width=150)
    document = page.parse()
    assert texts(document, "paragraph") == [LOREM.replace("committee", name) for name in names]


def test_a_sentence_goes_on_in_the_next_column():
    page = Page()
    lines = simpleSplit(LOREM, "Times-Roman", 10, 220)
    for i, line in enumerate(lines[:5]):
        page.text(60, 80 + 12 * i, line)
    for i, line in enumerate(lines[5:]):
        page.text(320, 80 + 12 * i, line)
    document = page.parse()
    (block,) = document.blocks
    assert document.text == LOREM
    assert [round(box.x0) for box in block.boxes] == [60, 320]


def test_headings_by_size_weight_and_number():
    page = Page()
    page.text(60, 60, "Report on Harvests", 20, "Times-Bold")
    y = 90.0
    for title, size in (
        ("1 Introduction", 14),
        ("1.1 Scope", 11),
        ("1.1.1 Regions", 10),
        ("2 Method", 14),
    ):
        page.text(60, y, title, size, "Times-Bold")
        y = page.column(60, y + 18, LOREM, width=480) + 18
    document = page.parse()
    assert levels(document) == [
        ("Report on Harvests", 1),
        ("1 Introduction", 2),
        ("1.1 Scope", 3),
        ("1.1.1 Regions", 4),
        ("2 Method", 2),
    ]
    assert texts(document, "paragraph") == [LOREM] * 4


def test_bold_words_inside_a_paragraph_make_no_heading():
    page = Page()
    page.text(60, 80, "Note.", 10, "Times-Bold")
    page.text(90, 80, "The committee met on the first day of spring and heard")
    page.column(60, 92, LOREM, width=300)
    assert levels(page.parse()) == []


def test_outline_makes_headings_and_a_wrong_outline_none():
    for title, expected in (("Plain Words", [("Plain Words", 2)]), ("Something Else", [])):
        page = Page()
        page.canvas.bookmarkPage("top")
        page.canvas.addOutlineEntry("Book", "top", 0)
        page.canvas.addOutlineEntry(title, "top", 1)
        page.text(60, 80, "Plain Words")
        page.column(60, 110, LOREM, width=400)
        assert levels(page.parse()) == expected


def running_pages(pages: int = 4) -> Page:
    page = Page()
    for i in range(1, pages + 1):
        page.text(60, 40, f"Harvest Report | Chapter {1 + i // 3}")
        page.column(60, 100, f"Page {i} speaks of {i} things. {LOREM}", width=480)
        page.text(300, 760, str(i))
        page.next()
    return page


def test_running_headers_and_page_numbers_go_and_nothing_else():
    data = running_pages().data()
    document = PdfParser().parse(data, name="a.pdf")
    assert "Harvest Report" not in document.text
    assert texts(document, "paragraph") == [
        f"Page {i} speaks of {i} things. {LOREM}" for i in range(1, 5)
    ]
    kept = PdfParser(keep_furniture=True).parse(data, name="a.pdf")
    assert kept.text.count("Harvest Report") == 4


def test_footers_with_a_counting_number_go_at_any_height():
    page = Page()
    for i in range(1, 5):
        y = page.column(60, 100, (LOREM + " ") * i, width=480)
        page.text(250, y + 20, f"Harvest Inc. | 2022 Form 10-Q | {i}")
        page.next()
    document = page.parse()
    assert "Form 10-Q" not in document.text
    assert document.text.count("committee") == 10


def test_numbered_titles_at_the_top_of_a_few_pages_stay():
    page = Page()
    for i in range(20):
        if i % 5 == 0:
            page.text(280, 40, f"Exhibit {31 + i // 5}.1")
        page.column(60, 100 + i, LOREM, width=480)
        page.next()
    assert page.parse().text.count("Exhibit") == 4


def test_a_single_page_keeps_its_edges():
    document = running_pages(1).parse()
    assert "Harvest Report" in document.text
    assert document.text.rstrip().endswith("1")


def test_numbers_of_a_table_at_the_foot_of_pages_stay():
    page = Page()
    for i in range(4):
        page.column(60, 100, LOREM, width=480)
        page.text(60, 750, f"{17 * i + 3},{110 + i}")
        page.next()
    document = page.parse()
    assert "3,110" in document.text
    assert "54,113" in document.text


def test_words_cut_at_a_line_end_become_whole():
    page = Page()
    lines = (
        "We use self-attention in every layer of this exam-",
        "ple, and the result of it does not depend on self-",
        "attention alone. In section 2019-",
        "2020 the authors McDonald-",
        "Smith agree with that, and so do we.",
    )
    for i, line in enumerate(lines):
        page.text(60, 80 + 12 * i, line)
    assert page.parse().text == (
        "We use self-attention in every layer of this example, and the result of it does not "
        "depend on self-attention alone. In section 2019-2020 the authors McDonald-Smith agree "
        "with that, and so do we."
    )


def test_a_word_cut_by_a_page_break_becomes_whole():
    page = Page()
    page.text(60, 700, "The senate asked for another exam-")
    page.next()
    page.text(60, 60, "ple of it, and got none.")
    document = page.parse()
    assert document.text == "The senate asked for another example\n\nof it, and got none."
    assert [b.page for b in document.blocks] == [1, 2]


def line_of(text: str, hyphenated: bool = False) -> Line:
    cell = Cell(0, 100, text)
    return Line(1, 0, text, 0, 100, 0, 10, Style(), 0, (cell,), hyphenated, False, 20)


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        ("a long exam-", "ple", "a long example"),
        ("a soft exam\u00ad", "ple", "a soft example"),
        ("state-of-the-", "art", "state-of-the-art"),
        ("pre- and post-", "war", "pre- and postwar"),
        ("a dash -", "here", "a dash - here"),
        ("two\u00adfold", "text", "twofold text"),
        ("漢字の", "文章", "漢字の文章"),
        ("한국", "사람", "한국 사람"),
    ],
)
def test_joiner(first: str, second: str, joined: str):
    lines = [line_of(first), line_of(second)]
    assert Joiner(lines).join(lines) == joined


def test_joiner_keeps_the_hyphen_that_the_document_uses_elsewhere():
    lines = [line_of("a well-known"), line_of("and well-", True), line_of("known case")]
    assert Joiner(lines).join(lines[1:]) == "and well-known case"


def test_aligned_columns_become_a_table():
    page = Page()
    page.column(60, 60, LOREM, width=480)
    header = ("", "2022", "2021")
    rows = (
        ("Net sales", "$ 304,182", "$ 282,457"),
        ("Cost of sales", "171,495", "164,795"),
        ("Gross margin", "132,687", "117,662"),
        ("Net income", "$ 79,082", "$ 74,129"),
    )
    for i, row in enumerate((header, *rows)):
        for x, cell in zip((60, 300, 400), row, strict=True):
            page.text(x, 150 + 14 * i, cell)
    page.column(60, 260, LOREM, width=480)
    document = page.parse()
    (table,) = [b for b in document.blocks if b.kind == "table"]
    lines = [document.text[row.start : row.end] for row in table.rows]
    assert lines == ["| 2022 | 2021", *(" | ".join(row) for row in rows)]
    assert table.header_rows == 1
    assert texts(document, "paragraph") == [LOREM, LOREM]
    (box,) = table.boxes
    assert box.x0 == pytest.approx(60, abs=1)
    assert box.y0 == pytest.approx(142, abs=2)
    assert box.y1 == pytest.approx(208, abs=2)


def test_list_items():
    page = Page()
    page.text(60, 60, "Three things are needed:")
    for i, item in enumerate(("Seed", "Water", "Patience")):
        page.text(72, 74 + 12 * i, f"\u2022 {item}")
    for i, item in enumerate(("Sow.", "Pour.", "Wait.")):
        page.text(72, 120 + 12 * i, f"{i + 1}. {item}")
    document = page.parse()
    assert texts(document, "list_item") == [
        "\u2022 Seed",
        "\u2022 Water",
        "\u2022 Patience",
        "1. Sow.",
        "2. Pour.",
        "3. Wait.",
    ]
    assert "\u2022 Seed\n\u2022 Water\n" in document.text


def test_code_keeps_its_lines_and_indentation():
    page = Page()
    code = ["def add(a, b):", "    total = a + b", "    return total"]
    page.column(60, 60, LOREM, width=480)
    for i, line in enumerate(code):
        indent = len(line) - len(line.lstrip())
        page.text(60 + 6 * indent, 150 + 12 * i, line.lstrip(), 10, "Courier")
    assert texts(page.parse(), "code") == ["\n".join(code)]


def test_boxes_hold_the_words_of_their_block():
    page = Page()
    page.text(100, 200, "Alpha beta gamma")
    page.text(100, 212, "delta.")
    page.next()
    page.text(300, 500, "Omega", 20)
    first, second = page.parse().blocks
    (box,) = first.boxes
    assert box.page == first.page == 1
    assert box.x0 == pytest.approx(100, abs=0.6)
    assert 190 <= box.y0 <= 194
    assert 212 <= box.y1 <= 216
    assert box.x1 == pytest.approx(100 + stringWidth("Alpha beta gamma", "Times-Roman", 10), abs=1)
    (box,) = second.boxes
    assert (box.page, second.page) == (2, 2)
    assert 300 - 1 <= box.x0 <= 300 + 1
    assert 482 <= box.y0 <= 486


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_pages(rotation: int):
    page = Page()
    page.canvas.setPageRotation(rotation)
    page.text(100, 200, "The words stay in order")
    document = page.parse()
    (box,) = document.blocks[0].boxes
    width = stringWidth("The words stay in order", "Times-Roman", 10)
    x0, x1, top, base = 100, 100 + width, 192, 200
    shown = {
        90: (HEIGHT - base, x0, HEIGHT - top, x1),
        180: (WIDTH - x1, HEIGHT - base, WIDTH - x0, HEIGHT - top),
        270: (WIDTH - HEIGHT + top, HEIGHT - x1, WIDTH - HEIGHT + base, HEIGHT - x0),
    }[rotation]  # reportlab swaps width and height of pages that lie on their side
    assert document.text == "The words stay in order"
    assert tuple(box)[1:] == pytest.approx(shown, abs=4)


def test_sideways_text_is_read_after_upright_text():
    page = Page()
    page.canvas.saveState()
    page.canvas.translate(30, 200)
    page.canvas.rotate(90)
    page.canvas.setFont("Times-Roman", 16)
    page.canvas.drawString(0, 0, "arXiv:1809.01202v2 [cs.CL]")
    page.canvas.restoreState()
    page.column(60, 100, LOREM, width=480)
    document = page.parse()
    assert texts(document, "paragraph") == [LOREM, "arXiv:1809.01202v2 [cs.CL]"]
    (box,) = document.blocks[1].boxes
    assert box.y1 == pytest.approx(HEIGHT - 200, abs=1)
    assert box.x0 < 30 < box.x1


@given(turn=st.integers(0, 3), x=st.floats(-999, 999), y=st.floats(-999, 999))
def test_turned_is_its_own_inverse(turn: int, x: float, y: float):
    assert turned(turn, *turned(turn, x, y)) == (x, y)


def test_frame_height_of_a_turned_page():
    assert Frame(1, 0, 0, 612, 792, 1).height == 612
    assert Frame(1, 0, 0, 612, 792, 2).height == 792


def test_pages_cover_the_blocks():
    document = running_pages(3).parse()
    assert len(document.pages) == 3
    for block in document.blocks:
        span = document.pages[block.page - 1]
        assert span.start <= block.start < block.end <= span.end


def test_metadata_and_titles():
    page = Page()
    page.canvas.setTitle("Harvests of the World")
    page.canvas.setAuthor("A. Farmer")
    page.text(60, 60, "Another Large Heading", 24)
    page.column(60, 100, LOREM, width=480)
    document = page.parse()
    assert document.title == "Harvests of the World"
    assert document.metadata["author"] == "A. Farmer"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", document.metadata["created"])


@pytest.mark.parametrize("title", ["untitled", "Microsoft Word - a.doc", "0000320193-22", "x.pdf"])
def test_a_placeholder_is_no_title(title: str):
    page = Page()
    page.canvas.setTitle(title)
    page.text(60, 60, "The Real Title", 24)
    page.column(60, 100, LOREM, width=480)
    assert page.parse().title == "The Real Title"


def test_encrypted_files_need_the_password():
    page = Page(encrypt=StandardEncryption("secret", canPrint=0))
    page.text(60, 60, "Hidden words")
    data = page.data()
    with pytest.raises(DocumentError, match="password"):
        PdfParser().parse(data, name="a.pdf")
    with pytest.raises(DocumentError, match="wrong"):
        PdfParser(password="guess").parse(data, name="a.pdf")
    assert PdfParser(password="secret").parse(data, name="a.pdf").text == "Hidden words"


def test_pages_without_text_are_named():
    page = Page()
    page.text(60, 60, "Words on the first page.")
    for _ in range(3):
        page.next()
        page.canvas.rect(50, 50, 400, 600, fill=1)
    page.next()
    page.text(60, 60, "Words on the last page.")
    document = page.parse()
    (warning,) = document.warnings
    assert warning.startswith("pages 2-4 have no text layer")
    assert len(document.pages) == 5


def test_a_file_without_any_text_is_an_error():
    page = Page()
    page.canvas.rect(50, 50, 400, 600, fill=1)
    with pytest.raises(DocumentError, match=r"page 1 has no text layer.*OCR"):
        page.parse()


@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 3], lambda d: b"", lambda d: b"x" * 99])
def test_damaged_files_are_errors(damage):
    page = Page()
    page.text(60, 60, "Words")
    with pytest.raises(DocumentError, match=r"a\.pdf: "):
        PdfParser().parse(damage(page.data()), name="a.pdf")


def test_what_is_filled_into_a_form_is_text():
    page = Page()
    page.text(60, 80, "Name:")
    form = page.canvas.acroForm
    form.textfield(name="who", value="Ada Lovelace", x=120, y=HEIGHT - 85, width=200, height=18)
    assert "Name: Ada Lovelace" in page.parse().text.replace("\n\n", " ")


word = st.text(string.ascii_lowercase, min_size=2, max_size=9)


@settings(deadline=None, max_examples=25)
@given(
    columns=st.lists(st.lists(word, min_size=30, max_size=90), min_size=1, max_size=3),
    size=st.sampled_from([8, 10, 12]),
)
def test_no_word_is_lost_and_columns_are_not_mixed(columns: list[list[str]], size: int):
    page = Page()
    width = 480 / len(columns) - 30
    for i, words in enumerate(columns):
        named = [f"{'abc'[i]}{word}" for word in words]
        page.column(60 + i * (width + 30), 80, " ".join(named), width=width, size=size)
    found = page.parse().text.split()
    expected = [f"{'abc'[i]}{word}" for i, words in enumerate(columns) for word in words]
    assert Counter(found) == Counter(expected)
    if len(columns) == 1:
        assert found == expected


def test_sample_booking_order():
    data = (SAMPLES / "movie-theater-booking-2024.pdf").read_bytes()
    document = PdfParser().parse(data, name="movie-theater-booking-2024.pdf")
    assert document.title == "STARLIGHT CINEMAS"
    rows = [document.text[r.start : r.end] for b in document.blocks for r in b.rows]
    assert "December 2024 | 48 | $12,500.00 | $11,250.00 | 85%" in rows
    assert "Booking Summary" in texts(document, "heading")


@pytest.mark.skipif(not DATA, reason="CHUNKWISE_DATA is not set")
def test_text_of_real_files_is_kept():
    for path in sorted(Path(DATA).rglob("*.pdf")):
        data = path.read_bytes()
        if "scan" in path.name:
            continue
        document = PdfParser(keep_furniture=True).parse(data, name=path.name)
        assert share_kept(data, document.text) >= 0.995, path.name


def share_kept(data: bytes, text: str) -> float:
    """Share of the letters and digits of pdfium's plain text, each occurrence counted."""
    pdf = pypdfium2.PdfDocument(data)
    plain = "".join(page.get_textpage().get_text_range() for page in pdf)
    pdf.close()
    have, wanted = (letters(part) for part in (text, plain))
    return sum((have & wanted).values()) / max(wanted.total(), 1)


def letters(text: str) -> Counter[str]:
    return Counter(c for c in unicodedata.normalize("NFKC", text) if c.isalnum())
