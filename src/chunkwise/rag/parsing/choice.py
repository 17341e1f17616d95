"""What a file is, told by its first bytes."""

from __future__ import annotations

import io
import re
import zipfile
import zlib

from chunkwise.errors import UnsupportedFormatError

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_HEAD_BYTES = 2048
_SAVE = "save it as {} with the program that made it"
# Names of streams in an OLE container, and what such a file is; the first match counts.
_OLE_KINDS = (
    ("EncryptedPackage", "an encrypted Office file; save it without a password"),
    ("WordDocument", "an old Word file (.doc); " + _SAVE.format(".docx")),
    ("PowerPoint Document", "an old PowerPoint file (.ppt); " + _SAVE.format(".pptx")),
    ("__substg1.0_", "an Outlook message (.msg); " + _SAVE.format(".eml")),
    ("Workbook", "an old Excel file (.xls); " + _SAVE.format(".xlsx")),
    ("Book", "an old Excel file (.xls); " + _SAVE.format(".xlsx")),
)
_IMAGE = "an image; no text recognition (OCR) is done"
_ARCHIVE = "an archive; unpack it first"
_PROGRAM = "a program or library, not a document"
_MEDIA = "sound or video; transcribe it first"
_DATABASE = "a database or data file; export it as CSV or JSON"
_FONT = "a font, not a document"
_SIGNATURES: tuple[tuple[bytes, int, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, _IMAGE),
    (b"\xff\xd8\xff", 0, _IMAGE),
    (b"GIF87a", 0, _IMAGE),
    (b"GIF89a", 0, _IMAGE),
    (b"II*\0", 0, _IMAGE),
    (b"MM\0*", 0, _IMAGE),
    (b"WEBP", 8, _IMAGE),
    (b"\0\0\1\0", 0, _IMAGE),
    (b"8BPS", 0, _IMAGE),
    (b"ftypheic", 4, _IMAGE),
    (b"ftypavif", 4, _IMAGE),
    (b"\x1f\x8b", 0, _ARCHIVE),
    (b"BZh", 0, _ARCHIVE),
    (b"\xfd7zXZ\0", 0, _ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", 0, _ARCHIVE),
    (b"Rar!\x1a\x07", 0, _ARCHIVE),
    (b"\x28\xb5\x2f\xfd", 0, _ARCHIVE),
    (b"ustar", 257, _ARCHIVE),
    (b"\x7fELF", 0, _PROGRAM),
    (b"MZ\x90\0", 0, _PROGRAM),
    (b"\xca\xfe\xba\xbe", 0, _PROGRAM),
    (b"\xcf\xfa\xed\xfe", 0, _PROGRAM),
    (b"\xce\xfa\xed\xfe", 0, _PROGRAM),
    (b"\0asm", 0, _PROGRAM),
    (b"ID3", 0, _MEDIA),
    (b"\xff\xfb", 0, _MEDIA),
    (b"fLaC", 0, _MEDIA),
    (b"OggS", 0, _MEDIA),
    (b"WAVE", 8, _MEDIA),
    (b"AVI ", 8, _MEDIA),
    (b"ftyp", 4, _MEDIA),
    (b"\x1a\x45\xdf\xa3", 0, _MEDIA),
    (b"SQLite format 3\0", 0, _DATABASE),
    (b"PAR1", 0, _DATABASE),
    (b"\x89HDF\r\n\x1a\n", 0, _DATABASE),
    (b"wOFF", 0, _FONT),
    (b"wOF2", 0, _FONT),
    (b"\0\1\0\0\0", 0, _FONT),
    (b"OTTO\0", 0, _FONT),
)
_ZIP_MEMBERS = (
    ("word/document.xml", "docx"),
    ("word/document2.xml", "docx"),
    ("ppt/presentation.xml", "pptx"),
    ("xl/workbook.xml", "xlsx"),
)
_ZIP_TYPES = (
    ("application/epub+zip", "epub"),
    ("application/vnd.oasis.opendocument.text", "odt"),
    ("application/vnd.oasis.opendocument.spreadsheet", "odt"),
    ("application/vnd.oasis.opendocument.presentation", "odt"),
)
_HTML = re.compile(rb"(?:<\?xml[^>]*>|<!--.*?-->|\s)*<(?:!doctype\s+html|html)[\s>]", re.I | re.S)
_PDF = re.compile(rb"[\xef\xbb\xbf\s\0]{0,1020}%PDF-")
_XML = re.compile(rb"\s*<\?xml\s")
_MAIL = re.compile(
    rb"(?:(?:return-path|received|from|to|subject|date|message-id|mime-version|delivered-to|cc|"
    rb"content-type|content-transfer-encoding|reply-to|x-[\w-]+|dkim-signature)"
    rb":[^\n]*\r?\n(?:[ \t][^\n]*\r?\n)*){2,}",
    re.I,
)


def recognize(data: bytes, name: str) -> str | None:
    """The parser for what the bytes certainly are; None when they may be several things.

    Args:
        data: The whole file.
        name: The document, for the error.

    Raises:
        UnsupportedFormatError: They are something that no parser takes; the reason says what
            it is and what to do.
    """
    head = data[:_HEAD_BYTES]
    if head.startswith(b"PK\x03\x04"):
        return _in_zip(data, name)
    if head.startswith(_OLE):
        raise UnsupportedFormatError(name, f"is {_in_ole(data)}.")
    if head.startswith(b"{\\rtf"):
        return "rtf"
    if _PDF.match(head):
        return "pdf"
    for signature, at, what in _SIGNATURES:
        if head.startswith(signature, at) and not _is_plain(head):
            raise UnsupportedFormatError(name, f"is {what}.")
    return "html" if _HTML.match(head.removeprefix(b"\xef\xbb\xbf")) else None


def recognize_text(data: bytes) -> str | None:
    """The parser for text that shows its format, for files whose name says nothing."""
    head = data[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf")
    if _XML.match(head):
        return "xml"
    if _MAIL.match(head):
        return "email"
    start, end = head.lstrip()[:1], data[-256:].rstrip()[-1:]
    return "json" if (start, end) in ((b"{", b"}"), (b"[", b"]")) else None


def _is_plain(head: bytes) -> bool:
    """Printable ASCII all through: a text that happens to start like a signature."""
    return all(32 <= byte < 127 or byte in b"\t\n\r" for byte in head)


def _in_ole(data: bytes) -> str:
    for stream, what in _OLE_KINDS:
        if stream.encode("utf-16-le") in data:
            return what
    return "an OLE container (an old Office file?); save it in a current format"


def _in_zip(data: bytes, name: str) -> str | None:
    """The document format packed in a zip file; None if the file is damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = set(archive.namelist())
            kind = _mimetype(archive) if "mimetype" in members else ""
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, KeyError, zlib.error):
        return None
    for member, parser in _ZIP_MEMBERS:
        if member in members and "[Content_Types].xml" in members:
            return parser
    for prefix, parser in _ZIP_TYPES:
        if kind.startswith(prefix):
            return parser
    if "META-INF/container.xml" in members:
        return "epub"
    if "xl/workbook.bin" in members:
        raise UnsupportedFormatError(name, "is a binary Excel file (.xlsb); save it as .xlsx.")
    if kind.startswith("application/vnd.oasis.opendocument"):
        raise UnsupportedFormatError(name, f"is an OpenDocument file of type {kind!r}; export it.")
    raise UnsupportedFormatError(name, f"is {_ARCHIVE}.")


def _mimetype(archive: zipfile.ZipFile) -> str:
    with archive.open("mimetype") as file:
        return file.read(100).decode("latin-1")
