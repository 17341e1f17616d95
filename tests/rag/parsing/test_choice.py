import io
import zipfile

import pytest

from chunkwise.errors import DocumentError, UnsupportedFormatError
from chunkwise.rag.parsing import choose, parse, parsers
from chunkwise.rag.parsing.base import DocumentBuilder
from tests.conformance.test_parsers import SAMPLES

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600
BINARY = ["pdf", "docx", "pptx", "xlsx", "odt", "epub", "rtf"]


def ole(stream: str) -> bytes:
    return OLE + stream.encode("utf-16-le")


@pytest.mark.parametrize("parser", parsers.own)
def test_suffix_chooses(parser):
    name, data = SAMPLES[parser]
    assert choose(name, data) == parser
    assert choose("dir/UPPER" + name.upper(), data) == parser


@pytest.mark.parametrize("parser", BINARY)
@pytest.mark.parametrize("name", ["a.txt", "a", "a.zip", "a.doc", "a.pdf"])
def test_certain_content_beats_the_name(parser, name):
    data = SAMPLES[parser][1]
    assert choose(name, data) == parser
    warnings = parse(data, name=name).warnings
    assert bool(warnings) == ("." in name and not SAMPLES[parser][0].endswith(name[1:]))
    if warnings:
        assert parser in warnings[0]


def test_html_called_markdown_is_read_as_html_and_code_is_not():
    page = b"<!DOCTYPE html>\n<html><body><h1>One</h1></body></html>"
    document = parse(page, name="a.md")
    assert document.text == "One"
    assert "html" in document.warnings[0]
    assert choose("a.php", page) == "code"
    assert choose("a", b"<?xml version='1.0'?>\n" + page) == "html"


@pytest.mark.parametrize(
    ("data", "parser"),
    [
        (b'{"a": 1}', "json"),
        (b"<?xml version='1.0'?><a>x</a>", "xml"),
        (b"From: a@b.c\r\nSubject: x\r\n\r\nhello", "email"),
        (b"#!/bin/sh\necho hello", "text"),
        (b"Note: this is text\nand no mail", "text"),
        (b"{ not json", "text"),
    ],
)
def test_a_name_without_suffix_leaves_it_to_the_content(data, parser):
    assert choose("README", data) == parser


@pytest.mark.parametrize("name", ["Makefile", "a.toml", "a.yaml", ".gitignore", "a.rst"])
def test_unknown_text_is_text_without_a_warning(name):
    document = parse(b"some words = here\n", name=name)
    assert document.text == "some words = here\n"
    assert not document.warnings


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (ole("EncryptedPackage"), "without a password"),
        (ole("WordDocument"), "old Word.*docx"),
        (ole("Workbook"), "old Excel.*xlsx"),
        (ole("PowerPoint Document"), "old PowerPoint.*pptx"),
        (ole("__substg1.0_0037001F"), "Outlook.*eml"),
        (OLE, "OLE"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "image.*OCR"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 50, "image"),
        (b"\x1f\x8b\x08" + b"\0" * 50, "archive"),
        (b"\x7fELF" + b"\0" * 50, "program"),
        (b"\0\0\0 ftypisom" + b"\0" * 50, "video"),
        (b"SQLite format 3\0" + b"\0" * 50, "database"),
    ],
)
def test_known_binary_is_named_with_its_remedy(data, says):
    for name in ("a.bin", "a.txt", "a.docx"):
        with pytest.raises(UnsupportedFormatError, match=says):
            parse(data, name=name)


def test_plain_zip_is_an_archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(UnsupportedFormatError, match="archive"):
        parse(buffer.getvalue(), name="a.docx")


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n"])
def test_empty_is_said(data):
    with pytest.raises(DocumentError, match="is empty"):
        parse(data, name="a.txt")


def test_foreign_errors_are_mapped_with_their_cause():
    with pytest.raises(DocumentError) as info:
        parse(SAMPLES["docx"][1][:200], name="a.docx")
    assert info.value.name == "a.docx"


def test_impossible_characters_are_replaced_and_said():
    document = parse(rb'{"a": "x\ud800y\u0000z"}', name="a.json")
    assert document.text == "a: x\ufffdy\ufffdz"
    assert "2 impossible" in document.warnings[0]


def test_builder_appends_a_document_as_it_is():
    builder = DocumentBuilder("a")
    builder.add("paragraph", "before")
    part = parse(SAMPLES["markdown"][1], name="a.md")
    builder.add_document(part)
    document = builder.build()
    texts = [document.text[b.start : b.end] for b in document.blocks]
    assert texts == ["before", *(part.text[b.start : b.end] for b in part.blocks)]
    table = next(b for b in document.blocks if b.kind == "table")
    assert [document.text[a:b] for a, b in table.rows] == ["| x | y |", "|---|---|", "| 1 | 2 |"]
