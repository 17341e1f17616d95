from email.message import EmailMessage
from pathlib import Path

import pytest

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing import parse
from tests.rag.parsing.helpers import outline

FOLDER = Path(__file__).parents[2] / "data" / "parsing"


def message(**headers: str) -> EmailMessage:
    mail = EmailMessage()
    for key, value in {"From": "Ann <a@b.c>", "To": "d@e.f", "Subject": "Größe", **headers}.items():
        mail[key] = value
    return mail


def test_headers_are_text_and_metadata():
    mail = message(Date="Mon, 1 Jan 2024 10:00:00 +0000")
    mail.set_content("Hello\n\nBye\n")
    document = parse(mail.as_bytes(), name="a.eml")
    assert document.title == "Größe"
    assert document.metadata["from"] == "Ann <a@b.c>"
    assert document.metadata["date"] == "Mon, 01 Jan 2024 10:00:00 +0000"
    assert document.text.startswith("From: Ann <a@b.c>\nTo: d@e.f\nDate: Mon, 01")
    assert [t for _, _, t in outline(document)][1:] == ["Hello", "Bye"]


def test_plain_body_is_preferred_and_html_read_where_alone():
    mail = message()
    mail.set_content("plain words")
    mail.add_alternative("<p>html words</p>", subtype="html")
    text = parse(mail.as_bytes(), name="a.eml").text
    assert "plain words" in text
    assert "html words" not in text
    alone = message()
    alone.set_content("<h1>Head</h1><p>html wörds</p>", subtype="html", charset="cp1252")
    assert ("heading", 1, "Head") in outline(parse(alone.as_bytes(), name="a.eml"))


def test_attachments_are_read_or_named():
    mail = message()
    mail.set_content("see files")
    mail.add_attachment(b"a,b\nx,1\n", maintype="text", subtype="csv", filename="t.csv")
    mail.add_attachment(b"\x89PNG\r\n\x1a\n\0", maintype="image", subtype="png", filename="p.png")
    inner = message(Subject="Inner")
    inner.set_content("inner words")
    mail.add_attachment(inner)
    document = parse(mail.as_bytes(), name="a.eml")
    assert ("table", 0, "a | b\nx | 1") in outline(document)
    assert ("heading", 1, "Attachment: t.csv") in outline(document)
    assert "inner words" in document.text
    (warning,) = document.warnings
    assert "p.png" in warning
    assert "image" in warning


def test_real_message_with_attachment():
    document = parse((FOLDER / "eml_with_attachment.eml").read_bytes(), name="m.eml")
    assert "Attachment: test.txt" in document.text
    assert document.text.endswith("It contains some dummy content.\n")


def test_what_is_no_message_is_refused():
    with pytest.raises(DocumentError, match="not a mail message"):
        parse(b"just some words\n", name="a.eml")


def test_mails_in_mails_in_mails_do_not_overflow():
    data = b"body\r\n"
    head = b"From: a@b.c\r\nSubject: x\r\nContent-Type: message/rfc822\r\n\r\n"
    try:
        parse(head * 300 + b"From: a@b.c\r\n\r\n" + data, name="a.eml")
    except DocumentError as error:
        if not error.reason:
            raise
