"""Zip containers (docx, pptx, xlsx, odt, epub) opened with care, and their XML."""

from __future__ import annotations

import contextlib
import io
import zipfile
import zlib
from typing import IO, TYPE_CHECKING

from chunkwise.errors import DocumentError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_UNPACKED_BYTES = 512 * 1024**2
MAX_ENTRIES = 20_000
_PROLOG_BYTES = 4096
_SUSPECT_BYTES = 10 * 1024**2
_MAX_RATIO = 200
DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError)
_OLE = bytes.fromhex("d0cf11e0a1b11ae1")
_ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")


def open_zip(data: bytes, *, name: str, kind: str) -> zipfile.ZipFile:
    """Open a container after checking that it is whole, not encrypted and no zip bomb.

    Args:
        data: The file.
        name: Document name, for errors.
        kind: What it should be, for errors, as in "Word document".

    Raises:
        DocumentError: It is not a zip, cut off, encrypted, or unpacks to too much.
    """
    if data.startswith(_OLE):
        raise DocumentError(name, _describe_ole(data, kind))
    if not data:
        raise DocumentError(name, f"the file is empty, so it is no {kind}")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        if data.startswith(b"PK"):
            reason = f"the {kind} is damaged or cut off ({error}); get a whole copy"
        else:
            reason = f"is no {kind}: its content is not a zip container"
        raise DocumentError(name, reason) from error
    _check(archive.infolist(), name, kind)
    return archive


def open_entry(archive: zipfile.ZipFile, entry: str, *, name: str) -> IO[bytes]:
    """An entry as a stream.

    Raises:
        DocumentError: There is no such entry, or it cannot be unpacked.
    """
    try:
        return archive.open(entry)
    except KeyError as error:
        raise DocumentError(name, f"lacks the part {entry!r}; it is incomplete") from error
    except (*DAMAGES, RuntimeError) as error:
        raise DocumentError(name, f"the part {entry!r} is damaged ({error})") from error


def read_entry(archive: zipfile.ZipFile, entry: str, *, name: str) -> bytes:
    """The bytes of an entry.

    Raises:
        DocumentError: There is no such entry, or it is damaged.
    """
    with open_entry(archive, entry, name=name) as file:
        try:
            # No more than the directory says, which was checked: it may lie.
            return file.read(archive.getinfo(entry).file_size)
        except DAMAGES as error:
            raise DocumentError(name, f"the part {entry!r} is damaged ({error})") from error


def parse_xml(data: bytes, *, part: str, name: str) -> Element:
    """The root of an XML part; entities are refused.

    Raises:
        DocumentError: It is damaged.
    """
    from xml.etree.ElementTree import ParseError, fromstring

    refuse_entities(io.BytesIO(data), part=part, name=name)
    try:
        return fromstring(data)
    except (ParseError, LookupError, ValueError) as error:
        raise DocumentError(name, f"the part {part!r} is damaged ({error})") from error


def refuse_entities(file: IO[bytes], *, part: str, name: str) -> None:
    """Read up to the root element, and refuse XML that defines entities.

    They can make a small file huge. Checking what is in front of the root leaves the rest to
    the fast parser; `defusedxml` parses all of it in Python.

    Raises:
        DocumentError: It defines entities.
    """
    from xml.parsers import expat

    def refuse(*_: object) -> None:
        raise DocumentError(name, f"the part {part!r} defines XML entities; refused")

    def stop(*_: object) -> None:
        raise _RootReachedError

    parser = expat.ParserCreate()
    parser.EntityDeclHandler, parser.StartElementHandler = refuse, stop
    # A damaged file is reported by whoever parses all of it.
    with contextlib.suppress(_RootReachedError, expat.ExpatError, LookupError, ValueError):
        while data := file.read(_PROLOG_BYTES):
            parser.Parse(data, False)


class _RootReachedError(Exception):
    pass


def _check(entries: list[zipfile.ZipInfo], name: str, kind: str) -> None:
    if len(entries) > MAX_ENTRIES:
        raise DocumentError(name, f"has {len(entries)} entries, more than {MAX_ENTRIES}; refused")
    if any(entry.flag_bits & 1 for entry in entries):
        raise DocumentError(name, f"the {kind} is protected by a password; save it without one")
    total = sum(entry.file_size for entry in entries)
    if total > MAX_UNPACKED_BYTES:
        raise DocumentError(
            name, f"unpacks to {total} bytes, more than {MAX_UNPACKED_BYTES}; refused"
        )
    for entry in entries:
        too_dense = entry.file_size > _MAX_RATIO * max(1, entry.compress_size)
        if entry.file_size > _SUSPECT_BYTES and too_dense:
            raise DocumentError(
                name,
                f"its part {entry.filename!r} unpacks {entry.compress_size} bytes to "
                f"{entry.file_size}, as a zip bomb does; refused",
            )


def _describe_ole(data: bytes, kind: str) -> str:
    if _ENCRYPTED_STREAM in data:
        return f"the {kind} is protected by a password; save it without one"
    return "is in an old Office format (.doc, .xls, .ppt); save it in the new one"
