"""Bytes of unknown encoding to text, for all parsers of text formats."""

from __future__ import annotations

import codecs
import re
import unicodedata

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing.charsets import likely_encodings

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16 LE, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What writers mean by a label is the larger set, as browsers take it (WHATWG encodings).
_MEANT = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "tis-620": "cp874",
}
_REFUSED = frozenset({"utf-7", "unicode_escape", "raw_unicode_escape", "idna", "punycode"})
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\x80-\x84\x86-\x9f\ufffe\uffff]")
_WIDE = re.compile(r"[^\x00-\x7f]")
_MAX_CONTROL_RATIO = 0.02
_SAMPLE = 1 << 16  # bytes or characters
_VALID_PER_ERROR = 10


def decode(data: bytes, *, name: str, declared: str | None = None) -> str:
    """The text of a file, with `\\n` as its only line end and no byte order mark.

    Tried in this order: byte order mark, UTF-16 and UTF-32 told by their zero bytes, UTF-8
    (a few bad bytes allowed, they become U+FFFD), the declared encoding, the encoding whose
    reading of the bytes looks most like writing.

    Args:
        data: The whole file.
        name: The document, for the error.
        declared: Encoding that the file or its envelope names. A hint, which a byte order
            mark or valid UTF-8 overrules.

    Raises:
        DocumentError: The bytes are no text.
    """
    text = _decode(data, declared)
    sample = "" if text is None else text[:_SAMPLE]
    controls = len(_CONTROL.findall(sample))
    if text is None or "\0" in text or controls > _MAX_CONTROL_RATIO * len(sample):
        raise DocumentError(
            name, "looks binary, not text. If it is text, save it as UTF-8; if not, leave it out."
        )
    return normalize_newlines(text)


def normalize_newlines(text: str) -> str:
    """The text with CRLF and CR turned into LF."""
    if "\r" not in text:
        return text
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decode(data: bytes, declared: str | None) -> str | None:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    if b"\0" in data:
        return _decode_wide(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    text = _decode_mostly_utf8(data)
    if text is None and declared:
        text = _try(data, _known(declared))
    if text is not None:
        return text
    return next((t for e in likely_encodings(data) if (t := _try(data, e)) is not None), None)


def _decode_wide(data: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte order mark; None if neither gives plain characters."""
    readings = []
    for encoding, width in (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2)):
        sample = _try(data[: _SAMPLE - _SAMPLE % width], encoding)
        if not sample or any(unicodedata.category(c) in ("Cn", "Co") for c in set(sample)):
            continue
        # The zero bytes must be the upper halves of Latin letters, blanks and line ends.
        if 2 * sum(c < "\u0100" for c in sample) * (width - 1) >= data[:_SAMPLE].count(0):
            # The wrong byte order scatters the characters of a script over all of Unicode.
            readings.append((len({ord(c) >> 8 for c in sample}), encoding))
    readings.sort(key=lambda reading: reading[0])
    return next((t for _, e in readings if (t := _try(data, e)) and "\0" not in t), None)


def _decode_mostly_utf8(data: bytes) -> str | None:
    """UTF-8 with a few bad bytes, or cut off inside its last character."""
    text = data.decode("utf-8", "replace")
    errors = text.count("\ufffd")
    valid = len(_WIDE.findall(text)) - errors
    is_cut = errors == 1 and valid > 0 and text.endswith("\ufffd")
    return text if is_cut or valid >= _VALID_PER_ERROR * errors else None


def _known(label: str) -> str | None:
    """The codec that an encoding label means, or None for one that is unknown or refused."""
    try:
        found = codecs.lookup(label.strip()).name
        "".encode(found)  # LookupError for codecs that are not between text and bytes
    except (LookupError, ValueError):
        return None
    return None if found in _REFUSED else _MEANT.get(found, found)


def _try(data: bytes, encoding: str | None) -> str | None:
    if encoding is None:
        return None
    try:
        return data.decode(encoding)
    except UnicodeError:
        return None
