"""Word files: everything that is shown is there, once, in order; nothing that is not shown."""

import io

import pytest
from docx import Document as new_docx
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing.docx import DocxParser
from tests.rag.parsing.office import docx, p


def kinds(data: bytes) -> list[tuple[str, int, str]]:
    document = DocxParser().parse(data, name="a.docx")
    return [(b.kind, b.level, document.text[b.start : b.end]) for b in document.blocks]


def texts(data: bytes) -> list[str]:
    return [text for _, _, text in kinds(data)]


def test_a_file_of_python_docx_is_read_in_order() -> None:
    file = new_docx()
    file.core_properties.author = "A. Author"
    file.add_heading("Title", 0)
    file.add_heading("One", 1)
    file.add_paragraph("First.")
    file.add_paragraph("bullet", style="List Bullet")
    file.add_paragraph("deeper", style="List Bullet 2")
    table = file.add_table(2, 3)
    table.cell(0, 0).merge(table.cell(0, 1)).text = "wide"
    table.cell(0, 2).text, table.cell(1, 0).text = "c", "d"
    file.add_paragraph("Said.", style="Quote")
    file.sections[0].header.paragraphs[0].text = "RUNNING HEAD"
    buffer = io.BytesIO()
    file.save(buffer)
    document = DocxParser().parse(buffer.getvalue(), name="a.docx")
    assert [(b.kind, b.level) for b in document.blocks] == [
        ("heading", 1),
        ("heading", 1),
        ("paragraph", 0),
        ("list_item", 1),
        ("list_item", 1),
        ("table", 0),
        ("quote", 0),
    ]
    assert "wide |  | c\nd" in document.text
    assert "RUNNING HEAD" not in document.text
    assert (document.title, document.metadata["author"]) == ("Title", "A. Author")


def test_changes_are_shown_as_accepted_and_hidden_text_is_not() -> None:
    body = (
        "<w:p><w:r><w:t>kept </w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t>new</w:t></w:r></w:ins>"
        "<w:moveFrom><w:r><w:t>moved away</w:t></w:r></w:moveFrom>"
        "<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r>"
        '<w:r><w:rPr><w:vanish w:val="0"/></w:rPr><w:t>!</w:t></w:r></w:p>'
    )
    assert texts(docx(body)) == ["kept new!"]


def test_content_controls_links_and_fields_are_read() -> None:
    body = (
        f"<w:sdt><w:sdtContent>{p('inside')}</w:sdtContent></w:sdt>"
        "<w:p><w:hyperlink><w:r><w:t>link</w:t></w:r></w:hyperlink><w:r><w:tab/></w:r>"
        "<w:r><w:instrText>PAGE</w:instrText></w:r><w:r><w:t>12</w:t></w:r></w:p>"
    )
    assert texts(docx(body)) == ["inside", "link\t12"]


def test_a_text_box_is_read_once() -> None:
    box = f"<w:txbxContent>{p('boxed')}</w:txbxContent>"
    body = (
        '<w:p xmlns:mc="urn:mc"><w:r><w:t>around</w:t></w:r><w:r><mc:AlternateContent>'
        f"<mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
        "</mc:AlternateContent></w:r></w:p>"
    )
    assert texts(docx(body)) == ["around", "boxed"]
    cell = f"<w:tc>{body}</w:tc><w:tc>{p('x')}</w:tc>"
    assert texts(docx(f"<w:tbl><w:tr>{cell}</w:tr></w:tbl>")) == ["around | x", "boxed"]


def test_notes_stand_behind_what_they_belong_to() -> None:
    body = (
        '<w:p><w:r><w:t>Claim</w:t></w:r><w:r><w:footnoteReference w:id="7"/></w:r>'
        '<w:r><w:commentReference w:id="1"/></w:r></w:p>' + p("Next.")
    )
    data = docx(
        body,
        footnotes=f'<w:footnote w:id="7">{p("Source.")}</w:footnote>',
        comments=f'<w:comment w:id="1" w:author="Ann">{p("Sure?")}</w:comment>',
    )
    assert kinds(data) == [
        ("paragraph", 0, "Claim[1]"),
        ("note", 0, "[1] Source."),
        ("note", 0, "Comment by Ann: Sure?"),
        ("paragraph", 0, "Next."),
    ]


STYLES = """
<w:style w:type="paragraph" w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style>
<w:style w:type="paragraph" w:styleId="Eigen"><w:name w:val="Eigene"/>
  <w:basedOn w:val="berschrift2"/></w:style>
<w:style w:type="paragraph" w:styleId="Titre3"><w:name w:val="Titre 3"/></w:style>
<w:style w:type="paragraph" w:styleId="O"><w:name w:val="o"/>
  <w:pPr><w:outlineLvl w:val="3"/></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="Loop"><w:name w:val="l"/><w:basedOn w:val="Loop"/></w:style>
<w:style w:type="paragraph" w:styleId="C"><w:name w:val="Source Code"/></w:style>
"""


@pytest.mark.parametrize(
    ("style", "level"), [("berschrift2", 2), ("Eigen", 2), ("Titre3", 3), ("O", 4), ("Loop", 0)]
)
def test_headings_are_known_by_their_styles(style: str, level: int) -> None:
    data = docx(p("Text", f'<w:pStyle w:val="{style}"/>'), styles=STYLES)
    assert kinds(data) == [("heading" if level else "paragraph", level, "Text")]


def test_an_outline_level_of_its_own_makes_a_heading() -> None:
    assert kinds(docx(p("Text", '<w:outlineLvl w:val="0"/>'))) == [("heading", 1, "Text")]


def test_code_paragraphs_become_one_block() -> None:
    code = '<w:pStyle w:val="C"/>'
    data = docx(p("if x:", code) + p("") + p("    y()", code) + p("Prose."), styles=STYLES)
    assert texts(data) == ["if x:\n\n    y()", "Prose."]


def numbered(list_id: int, depth: int) -> str:
    return f'<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="{list_id}"/></w:numPr>'


def test_numbers_are_counted_as_word_does() -> None:
    levels = (
        '<w:abstractNum w:abstractNumId="0">'
        '<w:lvl w:ilvl="0"><w:start w:val="1"/><w:numFmt w:val="decimal"/>'
        '<w:lvlText w:val="%1."/></w:lvl>'
        '<w:lvl w:ilvl="1"><w:start w:val="1"/><w:numFmt w:val="lowerRoman"/>'
        '<w:lvlText w:val="%1.%2)"/></w:lvl></w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>'
        '<w:num w:numId="2"><w:abstractNumId w:val="0"/>'
        '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride></w:num>'
    )
    steps = [(1, 0), (1, 1), (1, 1), (1, 0), (1, 1), (2, 0), (2, 0)]
    body = "".join(p("x", numbered(*step)) for step in steps)
    markers = [text.removesuffix(" x") for text in texts(docx(body, numbering=levels))]
    assert markers == ["1.", "1.i)", "1.ii)", "2.", "2.i)", "5.", "6."]


def test_header_rows_are_those_marked_or_set_off() -> None:
    row = "<w:tr>{}" + "".join(f"<w:tc>{p(t)}</w:tc>" for t in "ab") + "</w:tr>"
    mark = "<w:trPr><w:tblHeader/></w:trPr>"
    look = '<w:tblPr><w:tblLook w:val="0020"/></w:tblPr>'
    tables = {
        f"<w:tbl>{row.format(mark)}{row.format(mark)}{row.format('')}</w:tbl>": 2,
        f"<w:tbl>{look}{row.format('')}{row.format('')}</w:tbl>": 1,
        f"<w:tbl>{row.format('')}{row.format('')}</w:tbl>": 0,
    }
    for table, expected in tables.items():
        (block,) = DocxParser().parse(docx(table), name="a.docx").blocks
        assert block.header_rows == expected


def test_vertically_merged_cells_are_not_repeated_and_deleted_rows_not_shown() -> None:
    merge = '<w:tcPr><w:vMerge w:val="{}"/></w:tcPr>'
    body = (
        f"<w:tbl><w:tr><w:tc>{merge.format('restart')}{p('a')}</w:tc><w:tc>{p('b')}</w:tc></w:tr>"
        f"<w:tr><w:tc>{merge.format('continue')}{p('a')}</w:tc><w:tc>{p('c')}</w:tc></w:tr>"
        f"<w:tr><w:trPr><w:del/></w:trPr><w:tc>{p('gone')}</w:tc></w:tr></w:tbl>"
    )
    assert texts(docx(body)) == ["a | b\n| c"]


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        ("<m:f><m:num>{a}{p}{b}</m:num><m:den>{c}</m:den></m:f>", "(a+b)/c"),
        ("<m:rad><m:deg/><m:e>{a}</m:e></m:rad>", "√(a)"),
        ("<m:sSup><m:e>{a}</m:e><m:sup>{b}</m:sup></m:sSup>", "a^b"),
        ("<m:sSubSup><m:e>{a}</m:e><m:sub>{b}</m:sub><m:sup>{c}</m:sup></m:sSubSup>", "a_b^c"),
        (
            '<m:nary><m:naryPr><m:chr m:val="∑"/></m:naryPr><m:sub>{a}</m:sub><m:sup>{b}</m:sup>'
            "<m:e>{c}</m:e></m:nary>",
            "∑_a^b c",
        ),
        ("<m:d><m:e>{a}</m:e></m:d>", "(a)"),
        ("<m:m><m:mr><m:e>{a}</m:e><m:e>{b}</m:e></m:mr></m:m>", "[a, b]"),
    ],
)
def test_equations_are_written_in_one_line(xml: str, text: str) -> None:
    letters = {k: f"<m:r><m:t>{v}</m:t></m:r>" for k, v in zip("abcp", "abc+", strict=True)}
    body = f"<w:p><m:oMath>{xml.format(**letters)}</m:oMath></w:p>"
    assert texts(docx(body)) == [text]


def test_a_strict_file_is_read_as_any_other() -> None:
    import zipfile

    source = zipfile.ZipFile(io.BytesIO(docx(p("strict"))))
    old = b"http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    new = b"http://purl.oclc.org/ooxml/wordprocessingml/main"
    entries = {n: source.read(n).replace(old, new) for n in source.namelist()}
    from tests.rag.parsing.office import zipped

    assert texts(zipped(dict(entries))) == ["strict"]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text("ab é漢🙂\u0301", min_size=1, max_size=20), max_size=8))
def test_every_paragraph_comes_out_in_order(paragraphs: list[str]) -> None:
    data = docx("".join(map(p, paragraphs)))
    assert texts(data) == [t.strip() for t in paragraphs if t.strip()]


def test_a_damaged_file_is_an_error() -> None:
    data = docx(p("text" * 1000))
    for broken in (data[: len(data) // 2], b"", b"no zip", b"PK\x03\x04" + b"\0" * 50):
        with pytest.raises(DocumentError):
            DocxParser().parse(broken, name="a.docx")
