"""Mail messages: headers, body, and the text of attachments that a parser takes."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from typing import ClassVar, cast

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing.base import DocumentBuilder, parse, parsers
from chunkwise.rag.parsing.encodings import decode
from chunkwise.types import Document

__all__ = ["EmailParser"]

_HEADERS = ("From", "To", "Cc", "Date", "Subject")


@dataclass(frozen=True)
class EmailParser:
    """The plain body is preferred; the HTML one is read where there is no other."""

    suffixes: ClassVar[tuple[str, ...]] = (".eml",)

    def parse(self, data: bytes, *, name: str) -> Document:
        """Parse a whole file.

        Raises:
            DocumentError: It has no headers of a message.
        """
        message = email.message_from_bytes(data, policy=email.policy.default)
        headers = dict(_headers(message))
        if not headers:
            raise DocumentError(name, "is not a mail message: it has none of its headers.")
        builder = DocumentBuilder(name)
        builder.title = headers.get("Subject", "")
        builder.metadata = {key.lower(): value for key, value in headers.items()}
        builder.add("paragraph", "\n".join(f"{k}: {v}" for k, v in headers.items()))
        body = message.get_body(preferencelist=("plain", "html"))
        if body is not None:
            _add_body(builder, cast(EmailMessage, body))
        for part in _attachments(message, body):
            _add_attachment(builder, part)
        return builder.build()


def _headers(message: EmailMessage) -> Iterator[tuple[str, str]]:
    for key in _HEADERS:
        try:
            value = message.get(key)
        except (ValueError, IndexError, AttributeError, TypeError):  # a header the library fails on
            value = dict(message.raw_items()).get(key)
        if value is not None and str(value).strip():
            yield key, " ".join(str(value).split())


def _add_body(builder: DocumentBuilder, part: EmailMessage) -> None:
    data = _payload(part)
    if not data.strip():
        return
    kind = "html" if part.get_content_type() == "text/html" else "text"
    text = decode(data, name=builder.name, declared=part.get_content_charset())
    document = parsers.load(kind)().parse(text.encode(), name=builder.name)
    builder.add_document(document)


def _attachments(message: EmailMessage, body: object) -> Iterator[EmailMessage]:
    """Parts that are neither a container nor the body nor another form of the body."""
    if message.is_multipart():
        if message.get_content_type() == "multipart/alternative" and body is not None:
            return
        for part in message.iter_parts():
            if part.get_content_maintype() == "multipart":
                yield from _attachments(cast(EmailMessage, part), body)
            elif part is not body:
                yield cast(EmailMessage, part)


def _add_attachment(builder: DocumentBuilder, part: EmailMessage) -> None:
    kind = part.get_content_type()
    label = _file_name(part) or _default_name(kind)
    data = _payload(part)
    try:
        document = parse(data, name=label)
    except DocumentError as exc:
        builder.warnings.append(f"Attachment {label!r} ({kind}) was not read: {exc.reason}")
        return
    builder.add("heading", f"Attachment: {label}", level=1)
    builder.add_document(document)


def _file_name(part: EmailMessage) -> str:
    return " ".join((part.get_filename() or "").replace("/", "_").split())


def _default_name(kind: str) -> str:
    endings = {"text/html": ".html", "text/csv": ".csv", "text/markdown": ".md"}
    endings |= {"message/rfc822": ".eml", "application/json": ".json", "text/plain": ".txt"}
    return "unnamed" + endings.get(kind, "")


def _payload(part: EmailMessage) -> bytes:
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload(0)
        return cast(EmailMessage, inner).as_bytes()
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""
