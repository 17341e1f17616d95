import pytest

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing.rtf import RtfParser
from tests.rag.parsing.helpers import outline


def read(body: str, head: str = r"\ansi\ansicpg1252") -> list[tuple[str, int, str]]:
    return outline(RtfParser().parse(f"{{\\rtf1{head} {body}}}".encode("latin-1"), name="a.rtf"))


def text(body: str, head: str = r"\ansi\ansicpg1252") -> str:
    return "\n".join(t for _, _, t in read(body, head))


def test_paragraphs_and_headings():
    assert read(r"\pard\outlinelevel0 Head\par\pard One\line two\par Three\tab x\par") == [
        ("heading", 1, "Head"),
        ("paragraph", 0, "One\ntwo"),
        ("paragraph", 0, "Three\tx"),
    ]


def test_what_is_no_text_is_left_out():
    body = r"{\fonttbl{\f0 Arial;}}{\*\generator W;}{\info{\title T}}{\pict\wbmp 0102ff}seen\par"
    assert text(body) == "seen"


def test_characters():
    assert text(r"caf\'e9 \emdash  \{x\} a\~b \ldblquote q\rdblquote") == "café — {x} a b “q”"
    assert text(r"\u26085?\u26412\'3f \uc0\u233 x") == "日本 éx"
    assert text(r"\u-10179?\u-8704?") == "😀"
    assert text(r"\'cf\'f0\'e8", r"\ansi\ansicpg1251") == "При"
    assert text(r"{\fonttbl{\f0\fcharset0 A;}{\f1\fcharset128 B;}}x\f1\'93\'fa\f0 y") == "x日y"


def test_table():
    row = r"\trowd\pard\intbl {}\cell {}\cell\row"
    body = row.format("a", "b") + row.format("1", "2") + r"\pard after\par"
    assert read(body) == [("table", 0, "a | b\n1 | 2"), ("paragraph", 0, "after")]


@pytest.mark.parametrize("data", [b"plain", b"{\\rt", b"{}"])
def test_what_is_no_rtf_is_refused(data):
    with pytest.raises(DocumentError, match="not an RTF"):
        RtfParser().parse(data, name="a.rtf")
