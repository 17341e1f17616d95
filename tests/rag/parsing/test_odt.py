"""OpenDocument: texts with lists, notes and tables; sheets and slides as pages."""

import pytest

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing import parse
from chunkwise.rag.parsing.odt import OdtParser
from tests.rag.parsing.office import odt


def kinds(data: bytes) -> list[tuple[str, int, str]]:
    document = OdtParser().parse(data, name="a.odt")
    return [(b.kind, b.level, document.text[b.start : b.end]) for b in document.blocks]


def test_headings_paragraphs_and_white_space() -> None:
    body = (
        '<text:h text:outline-level="2">Head</text:h><text:p>one\n  two<text:s text:c="2"/>x'
        "<text:line-break/>y <text:span>bold</text:span></text:p><text:p/>"
        "<text:tracked-changes><text:p>gone</text:p></text:tracked-changes>"
        "<text:section><text:p>inside</text:p></text:section>"
    )
    assert kinds(odt(body)) == [
        ("heading", 2, "Head"),
        ("paragraph", 0, "one two  x\ny bold"),
        ("paragraph", 0, "inside"),
    ]


def test_lists_are_numbered_and_nested() -> None:
    styles = (
        '<text:list-style style:name="N"><text:list-level-style-number text:level="1" '
        'style:num-format="1" style:num-suffix="."/></text:list-style>'
    )
    body = (
        '<text:list text:style-name="N"><text:list-item><text:p>a</text:p>'
        "<text:list><text:list-item><text:p>deep</text:p></text:list-item></text:list>"
        "</text:list-item><text:list-item><text:p>b</text:p></text:list-item></text:list>"
    )
    expected = [("list_item", 1, "1. a"), ("list_item", 2, "- deep"), ("list_item", 1, "2. b")]
    assert kinds(odt(body, styles=styles)) == expected


def test_notes_tables_and_code() -> None:
    styles = (
        '<style:style style:name="P1" style:family="paragraph" '
        'style:parent-style-name="Preformatted_20_Text"/>'
    )
    note = (
        "<text:note><text:note-citation>1</text:note-citation>"
        "<text:note-body><text:p>Source.</text:p></text:note-body></text:note>"
    )
    cell = "<table:table-cell><text:p>{}</text:p></table:table-cell>"
    covered = "<table:covered-table-cell/>"
    header = f"<table:table-row>{cell.format('h')}{covered}{cell.format('i')}</table:table-row>"
    row = f"<table:table-row>{''.join(map(cell.format, 'abc'))}</table:table-row>"
    body = (
        f"<text:p>Claim{note}</text:p><table:table><table:table-header-rows>{header}"
        f"</table:table-header-rows>{row}</table:table>"
        '<text:p text:style-name="P1">x = 1</text:p><text:p text:style-name="P1">y = 2</text:p>'
    )
    data = odt(body, styles=styles)
    assert [text for _, _, text in kinds(data)] == [
        "Claim[1]",
        "[1] Source.",
        "h |  | i\na | b | c",
        "x = 1\ny = 2",
    ]
    table = OdtParser().parse(data, name="a.odt").blocks[2]
    assert (table.kind, table.header_rows) == ("table", 1)


def test_sheets_and_slides_are_pages() -> None:
    blank = (
        '<table:table-row table:number-rows-repeated="1048576"><table:table-cell '
        'table:number-columns-repeated="16384"/></table:table-row>'
    )
    row = (
        '<table:table-row><table:table-cell table:number-columns-repeated="2"/>'
        "<table:table-cell><text:p>12.5%</text:p></table:table-cell></table:table-row>"
    )
    sheets = "".join(f'<table:table table:name="T{i}">{row}{blank}</table:table>' for i in (1, 2))
    document = parse(odt(sheets, kind="spreadsheet"), name="a.ods")
    assert (document.text, len(document.pages)) == ("T1\n\n12.5%\n\nT2\n\n12.5%", 2)
    slide = (
        '<drawing:page><drawing:frame presentation:class="title"><drawing:text-box>'
        "<text:p>Hello</text:p></drawing:text-box></drawing:frame><drawing:frame>"
        "<drawing:text-box><text:p>World</text:p></drawing:text-box></drawing:frame>"
        "</drawing:page>"
    )
    document = parse(odt(slide, kind="presentation"), name="a.odp")
    assert [(b.kind, b.page) for b in document.blocks] == [("heading", 1), ("paragraph", 1)]


def test_a_flat_file_is_read_too() -> None:
    import io
    import zipfile

    flat = zipfile.ZipFile(io.BytesIO(odt("<text:p>flat</text:p>"))).read("content.xml")
    assert OdtParser().parse(flat, name="a.fodt").text == "flat"


def test_a_password_and_entities_are_refused() -> None:
    locked = odt("", **{"META-INF/manifest.xml": "<m><encryption-data/></m>"})
    with pytest.raises(DocumentError, match="password"):
        OdtParser().parse(locked, name="a.odt")
    bomb = b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'
    with pytest.raises(DocumentError, match="entities"):
        OdtParser().parse(bomb, name="a.fodt")
