"""What every parser promises. A new parser adds one row to `SAMPLES`."""

import io
import json
import random
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing import parse, parsers
from chunkwise.types import Document

PROSE = "The quick brown fox jumps over the lazy dog.\n\nÀ côté, un renard – naïf.\n"


def _docx() -> bytes:
    import docx

    document = docx.Document()
    document.add_heading("Title", 1)
    document.add_paragraph("A first paragraph.")
    document.add_paragraph("An item", style="List Bullet")
    table = document.add_table(rows=2, cols=2)
    for i, text in enumerate(("Name", "Age", "Ann", "30")):
        table.cell(i // 2, i % 2).text = text
    return _saved(document.save)


def _pptx() -> bytes:
    import pptx

    deck = pptx.Presentation()
    for number in (1, 2):
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = f"Slide {number}"
        slide.placeholders[1].text = "A point\nAnother point"
    return _saved(deck.save)


def _xlsx() -> bytes:
    import openpyxl

    book = openpyxl.Workbook()
    for row in (["Name", "Age"], ["Ann", 30], ["Bob", 25]):
        book.active.append(row)
    book.create_sheet("Second").append(["only", "words"])
    return _saved(book.save)


def _saved(save) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def _zip(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return buffer.getvalue()


def _odt() -> bytes:
    names = ["office:1.0", "text:1.0", "table:1.0"]
    spaces = " ".join(
        f'xmlns:{n.split(":")[0]}="urn:oasis:names:tc:opendocument:xmlns:{n}"' for n in names
    )
    content = (
        f'<?xml version="1.0"?><office:document-content {spaces}><office:body><office:text>'
        '<text:h text:outline-level="1">Title</text:h><text:p>A paragraph.</text:p>'
        "</office:text></office:body></office:document-content>"
    )
    return _zip(**{"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content})


def _epub() -> bytes:
    container = (
        '<?xml version="1.0"?><container version="1.0" '
        'xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/>'
        "</rootfiles></container>"
    )
    package = (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Book</dc:title></metadata>'
        '<manifest><item id="a" href="a.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="a"/></spine></package>'
    )
    page = "<html xmlns='http://www.w3.org/1999/xhtml'><body><h1>One</h1><p>Text.</p></body></html>"
    return _zip(
        **{
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": container,
            "book.opf": package,
            "a.xhtml": page,
        }
    )


def _pdf() -> bytes:
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    for page in ("First page of words.", "Second page of words."):
        canvas.drawString(72, 720, page)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _notebook() -> bytes:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "\n", "Words."]},
        {
            "cell_type": "code",
            "source": "print(1)",
            "outputs": [{"output_type": "stream", "text": ["1\n"]}],
        },
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}).encode()


HTML = (
    "<!doctype html><title>T</title><h1>One</h1><p>Words <b>here</b>.</p><ul><li>a<li>b</ul>"
    "<table><tr><th>x<th>y<tr><td>1<td>2</table><pre>code\n  here</pre>"
)
MARKDOWN = (
    "---\ntitle: T\n---\n# One\n\nWords *here*.\n\n- a\n  - b\n\n> quote\n\n| x | y |\n|---|---|\n"
    "| 1 | 2 |\n\n```py\ncode\n```\n\nTwo\n===\n\n    code\n"
)
EML_LINES = ["From: a@b.c", "To: d@e.f", "Subject: Hi", "Date: Mon, 1 Jan 2024 00:00:00 +0000"]
EML = "\r\n".join([*EML_LINES, "", "Body.", ""])
RSS = (
    '<?xml version="1.0"?><rss version="2.0"><channel><title>News</title><item><title>One</title>'
    "<description>&lt;p&gt;Words.&lt;/p&gt;</description></item></channel></rss>"
)
CODE = (
    '"""Módulo."""\n\n\nclass A:\n    x = "日本"\n\n    def f(self):\n        return 1\n\n\n'
    "B = A()\n"
)
RTF = r"{\rtf1\ansi{\fonttbl\f0 Arial;}\f0 Words here.\par Caf\'e9 \u26085?.\par}"
SAMPLES = {
    "code": ("a.py", CODE.encode()),
    "csv": ("a.csv", b"name,age\nAnn,30\nBob,25\n"),
    "docx": ("a.docx", _docx()),
    "email": ("a.eml", EML.encode()),
    "epub": ("a.epub", _epub()),
    "html": ("a.html", HTML.encode()),
    "json": ("a.json", b'{"a": {"b": 1}, "c": [{"d": 1, "e": "x"}, {"d": 2, "e": "y"}]}'),
    "markdown": ("a.md", MARKDOWN.encode()),
    "notebook": ("a.ipynb", _notebook()),
    "odt": ("a.odt", _odt()),
    "pdf": ("a.pdf", _pdf()),
    "pptx": ("a.pptx", _pptx()),
    "rtf": ("a.rtf", RTF.encode()),
    "text": ("a.txt", PROSE.encode()),
    "xlsx": ("a.xlsx", _xlsx()),
    "xml": ("a.xml", RSS.encode()),
}


def check(document: Document) -> None:
    """Assert all that holds for any document."""
    text = document.text
    text.encode("utf-8")
    assert "\r" not in text
    assert "\0" not in text
    at = 0
    for block in document.blocks:
        assert at <= block.start < block.end <= len(text), block
        assert text[block.start : block.end].strip(), block
        at = block.end
        row_at = block.start
        for start, end in block.rows:
            assert row_at <= start <= end <= block.end, block
            row_at = end
        assert block.rows if block.kind == "table" else not block.rows, block
        assert 0 <= block.header_rows <= len(block.rows), block
        assert (block.level > 0) or block.kind != "heading", block
    page_at = 0
    for start, end in document.pages:
        assert page_at == start <= end <= len(text)
        page_at = end
    assert all(isinstance(k, str) and isinstance(v, str) for k, v in document.metadata.items())


def parsed(data: bytes, name: str) -> Document | None:
    """The checked document, or None after the one error that is allowed."""
    try:
        document = parse(data, name=name)
    except DocumentError as error:
        if not error.reason:
            raise
        return None
    check(document)
    return document


@pytest.fixture(params=parsers.own)
def sample(request):
    name = request.param
    assert name in SAMPLES, f"Add a sample for the parser {name!r} to SAMPLES in {__file__}."
    return (name, *SAMPLES[name])


def test_sample_gives_text_and_blocks(sample):
    parser, name, data = sample
    document = parsed(data, name)
    assert document is not None
    assert document.blocks
    assert document.name == name
    assert document == parsers.load(parser)().parse(data, name=name)
    assert not document.warnings


def test_parsing_twice_gives_the_same(sample):
    _, name, data = sample
    assert parse(data, name=name) == parse(data, name=name)


def test_suffixes_are_lower_case_and_belong_to_one_parser():
    seen: dict[str, str] = {}
    for parser in parsers.own:
        for suffix in parsers.load(parser).suffixes:
            assert suffix == suffix.lower()
            assert suffix.startswith(".")
            assert seen.setdefault(suffix, parser) == parser


def test_empty_file_is_refused_by_name(sample):
    with pytest.raises(DocumentError, match="empty"):
        parse(b"", name=sample[1])


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.8, 0.95, 0.999])
def test_truncated_file_raises_nothing_but_document_error(sample, share):
    _, name, data = sample
    parsed(data[: max(1, int(len(data) * share))], name)


def test_damaged_file_raises_nothing_but_document_error(sample):
    _, name, data = sample
    generator = random.Random(7)
    for _ in range(12):
        damaged = bytearray(data)
        for _ in range(max(1, len(data) // 200)):
            damaged[generator.randrange(len(data))] = generator.randrange(256)
        parsed(bytes(damaged), name)


def test_random_bytes_raise_nothing_but_document_error(sample):
    generator = random.Random(11)
    for size in (1, 2, 5, 30, 300, 3000):
        parsed(generator.randbytes(size), sample[1])


CHARACTERS = st.characters(codec="utf-8", exclude_characters="\0")
MARKS = "\n\n\n\n \t#-*=>|`,;:\"'<>[]{}()&\\"
WORDS = "1.␠ -␠ ␠␠␠␠ ``` |---| #␠ <p> </td> <table><tr> :: def␠f(): class␠A: a,b word 1.2␠Title"
ODD = [
    "\r\n",
    "\r",
    "👩\u200d👩\u200d👧",
    "e\u0301",
    "日本",
    "\u2028",
    "\x85",
    "\xa0",
    "\ufeff",
    "---\n",
]
PIECES = st.sampled_from(
    [*MARKS, *(word.replace("␠", " ") for word in WORDS.split()), *ODD, "---\n"]
)
TEXTS = st.lists(PIECES | st.text(CHARACTERS, max_size=8), max_size=40).map("".join)


@pytest.mark.parametrize(
    "name", ["a.txt", "a.md", "a.html", "a.csv", "a.py", "a.jsonl", "a.xml", "a.eml"]
)
def test_any_unicode_text(name):
    @settings(deadline=None, max_examples=60)
    @given(TEXTS)
    def run(text):
        document = parsed(text.encode("utf-8"), name)
        if document is not None and name in ("a.txt", "a.md", "a.py"):
            expected = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
            if not document.warnings:
                assert document.text == expected

    run()


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(deadline=None, max_examples=80)
@given(JSON)
def test_any_json_value_is_read_with_all_its_words(value):
    document = parsed(json.dumps(value).encode(), "a.json")
    assert document is not None
    words = [w for text in _strings(value) for w in text.replace("\0", "\ufffd").split()]
    assert all(word in document.text for word in words)


def _strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
