"""Books (.epub): the chapters in reading order, each read as HTML."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import unquote

from chunkwise.errors import DocumentError
from chunkwise.rag.parsing.base import DocumentBuilder, parse
from chunkwise.rag.parsing.ooxml import find_local, local_name
from chunkwise.rag.parsing.zips import open_zip, parse_xml, read_entry
from chunkwise.types import Document

if TYPE_CHECKING:
    import zipfile
    from xml.etree.ElementTree import Element

__all__ = ["EpubParser"]

_METADATA = {
    "creator": "author",
    "language": "language",
    "publisher": "publisher",
    "date": "date",
    "subject": "subject",
    "description": "description",
    "identifier": "identifier",
}
_CHAPTER_TYPES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
# Fonts may be disguised without the text being locked.
_FONT_METHODS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")


@dataclass(frozen=True)
class EpubParser:
    """Parses .epub files; each part of the spine is a page."""

    suffixes: ClassVar[tuple[str, ...]] = (".epub",)

    def parse(self, data: bytes, *, name: str) -> Document:
        """See `Parser.parse`."""
        archive = open_zip(data, name=name, kind="EPUB book")
        _refuse_locked(archive, name)
        package = _package_part(archive, name)
        root = parse_xml(read_entry(archive, package, name=name), part=package, name=name)
        builder = DocumentBuilder(name)
        _read_metadata(root, builder)
        for page, chapter in enumerate(_chapters(root, package), start=1):
            builder.new_page()
            _add_chapter(builder, archive, chapter, page)
        return builder.build()


def _refuse_locked(archive: zipfile.ZipFile, name: str) -> None:
    if "META-INF/encryption.xml" not in archive.namelist():
        return
    entry = "META-INF/encryption.xml"
    root = parse_xml(read_entry(archive, entry, name=name), part=entry, name=name)
    methods = [e.get("Algorithm", "") for e in find_local(root, "EncryptionMethod")]
    if any(not method.startswith(_FONT_METHODS) for method in methods):
        raise DocumentError(name, "is locked by copy protection (DRM), which cannot be read")


def _package_part(archive: zipfile.ZipFile, name: str) -> str:
    entry = "META-INF/container.xml"
    root = parse_xml(read_entry(archive, entry, name=name), part=entry, name=name)
    for file in find_local(root, "rootfile"):
        return file.get("full-path", "")
    raise DocumentError(name, "is no EPUB book: its container names no content")


def _read_metadata(root: Element, builder: DocumentBuilder) -> None:
    for metadata in find_local(root, "metadata"):
        for element in metadata.iter():
            key, value = local_name(element), " ".join((element.text or "").split())
            if key == "title" and value:
                builder.title = builder.title or value
            elif key in _METADATA and value:
                known = builder.metadata.get(_METADATA[key])
                joined = f"{known}; {value}" if known and key in ("creator", "subject") else value
                builder.metadata[_METADATA[key]] = (
                    joined if key in ("creator", "subject") else (known or value)
                )


def _chapters(root: Element, package: str) -> Iterator[str]:
    """Entries of the spine, in order; the table of contents is left out."""
    folder = posixpath.dirname(package)
    items = {item.get("id", ""): item for item in find_local(root, "item")}
    for reference in find_local(root, "itemref"):
        item = items.get(reference.get("idref", ""))
        if item is None or item.get("media-type") not in _CHAPTER_TYPES:
            continue
        if "nav" not in item.get("properties", "").split():
            yield posixpath.normpath(posixpath.join(folder, unquote(item.get("href", ""))))


def _add_chapter(
    builder: DocumentBuilder, archive: zipfile.ZipFile, chapter: str, page: int
) -> None:
    try:
        data = read_entry(archive, chapter, name=builder.name)
        if not data.strip():
            return
        builder.add_document(parse(data, name=f"{posixpath.basename(chapter)}.xhtml"), page=page)
    except DocumentError as error:
        builder.warnings.append(f"Chapter {chapter!r} was not read: {error.reason}")
