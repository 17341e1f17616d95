"""The parser protocol, the builder all parsers write to, and the choice of a parser."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import ClassVar, Protocol

from chunkwise.errors import ChunkwiseError, DocumentError
from chunkwise.rag.parsing.choice import recognize, recognize_text
from chunkwise.rag.parsing.encodings import normalize_newlines
from chunkwise.registry import Registry
from chunkwise.types import Block, BlockKind, Box, Document, Span


class Parser(Protocol):
    """Turns the bytes of one format family into a document.

    A parser module imports heavy packages inside `parse`: choosing a parser by suffix loads
    every module of the room.

    Attributes:
        suffixes: File name endings it takes, lower case, with the dot.
    """

    suffixes: ClassVar[tuple[str, ...]]

    def parse(self, data: bytes, *, name: str) -> Document:
        """Parse a whole file.

        Raises:
            DocumentError: The bytes cannot be read; the reason says what is wrong.
        """
        ...


parsers: Registry[Parser] = Registry(
    "chunkwise.rag.parsing",
    shared=(
        *("base", "charsets", "choice", "encodings", "files", "worker", "zips"),
        *("furniture", "geometry", "glyphs", "grid", "layout", "paragraphs"),
        *("cells", "omml", "ooxml", "outline", "slides", "wordstyles"),
    ),
)

_TEXT_PARSERS = frozenset({"text", "markdown"})
_SAME_FORMAT = {
    "docx": (".docm", ".dotx", ".dotm"),
    "pptx": (".pptm", ".potx", ".ppsx", ".ppsm"),
    "xlsx": (".xlsm", ".xltx", ".xltm"),
    "odt": (".ott", ".fodt"),
}
# Characters that no UTF-8 file or SQLite text can hold; escapes in JSON can make them.
_IMPOSSIBLE = re.compile("[\x00\ud800-\udfff]")


def parse(data: bytes, *, name: str) -> Document:
    """Parse a file with the parser that its name and its bytes call for.

    Args:
        data: The whole file.
        name: How the user knows it; its suffix counts.

    Raises:
        UnsupportedFormatError: No parser takes it; the reason says what it is.
        DocumentError: It is empty, damaged or not what it seems.
    """
    chosen = choose(name, data)
    try:
        document = parsers.load(chosen)().parse(data, name=name)
    except (ChunkwiseError, MemoryError):
        raise
    except Exception as exc:
        # Packages that read foreign formats raise anything on a damaged file.
        reason = f"could not be read as {chosen}: {type(exc).__name__}: {exc}"
        raise DocumentError(name, reason[:500]) from exc
    return _checked(document, _mismatch(name, chosen))


def choose(name: str, data: bytes) -> str:
    """The name of the parser for a file, by its bytes where they are certain, else its suffix.

    Args:
        name: How the user knows it.
        data: The whole file.

    Raises:
        UnsupportedFormatError: No parser takes it; the reason says what it is.
        DocumentError: It is empty.
    """
    if not data or data.isspace():
        raise DocumentError(name, "is empty.")
    by_suffix = parser_of_suffix(_suffix(name))
    certain = recognize(data, name)
    if certain == "html" and by_suffix not in (None, *_TEXT_PARSERS):
        certain = None  # a template or a stored page inside source code, XML or mail
    if certain is not None:
        return certain
    if by_suffix is None and not _suffix(name):
        by_suffix = recognize_text(data)
    return by_suffix or "text"


@functools.cache
def _suffixes() -> dict[str, str]:
    return {
        suffix: name
        for name in [*parsers.installed, *parsers.own]
        for suffix in parsers.load(name).suffixes
    }


def parser_of_suffix(suffix: str) -> str | None:
    """The parser that takes a suffix (lower case, with the dot), or None."""
    return _suffixes().get(suffix)


def _suffix(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).suffix.lower()


def _mismatch(name: str, chosen: str) -> str:
    """A sentence for the user when a file is not what its name says; else empty."""
    suffix = _suffix(name)
    known = parser_of_suffix(suffix)
    if not suffix or known == chosen or suffix in _SAME_FORMAT.get(chosen, ()):
        return ""
    if known is None and chosen == "text":
        return ""
    return f"The name ends in {suffix!r}, but the content is {chosen}; it was read as {chosen}."


def _checked(document: Document, mismatch: str) -> Document:
    """The document with what a store cannot hold replaced, and warnings about its text."""
    warnings = [mismatch] if mismatch else []
    text = document.text
    if unreadable := text.count("\ufffd"):
        warnings.append(f"{unreadable} characters could not be decoded; they read U+FFFD.")
    if _IMPOSSIBLE.search(text):
        text, count = _IMPOSSIBLE.subn("\ufffd", text)
        warnings.append(f"{count} impossible characters were replaced by U+FFFD.")
    clean = {
        _IMPOSSIBLE.sub("\ufffd", k): _IMPOSSIBLE.sub("\ufffd", v)
        for k, v in document.metadata.items()
    }
    return dataclasses.replace(
        document,
        text=text,
        title=_IMPOSSIBLE.sub("\ufffd", document.title),
        metadata=clean,
        warnings=(*warnings, *(_IMPOSSIBLE.sub("\ufffd", w) for w in document.warnings)),
    )


class DocumentBuilder:
    """Collects text and blocks; offsets hold by construction.

    Blocks are parted by one blank line, pages by the same; a table is one line a row, cells
    parted by ` | `. Text given to it is kept as it is, except that edge newlines are
    trimmed and every line ends in LF.
    """

    def __init__(self, name: str) -> None:
        self.name, self.title = name, ""
        self.metadata: dict[str, str] = {}
        self.warnings: list[str] = []
        self._parts: list[str] = []
        self._length = 0
        self._blocks: list[Block] = []
        self._pages: list[int] = []

    def add(
        self,
        kind: BlockKind,
        text: str,
        *,
        level: int = 0,
        page: int | None = None,
        boxes: Sequence[Box] = (),
        name: str = "",
        tight: bool = False,
    ) -> None:
        """Append one block. Blank text is no block.

        Args:
            kind: Kind of the block.
            text: Its text.
            level: Depth of a heading or list item.
            page: Page it starts on, from 1.
            boxes: Where it stands on its pages.
            name: Language of code or name of a definition.
            tight: Part it from the block before by one newline, as list items are.
        """
        text = normalize_newlines(text).strip("\n")
        if text.strip():
            start = self._append(text, "\n" if tight else "\n\n")
            self._blocks.append(
                Block(kind, start, self._length, level, page, tuple(boxes), (), 0, name)
            )

    def add_table(
        self,
        rows: Iterable[Sequence[str]],
        *,
        header_rows: int = 0,
        page: int | None = None,
        boxes: Sequence[Box] = (),
    ) -> None:
        """Append a table: white space inside cells becomes single spaces; blank rows go."""
        lines, headers = [], 0
        for i, row in enumerate(rows):
            cells = [" ".join(cell.split()) for cell in row]
            if any(cells):
                lines.append(" | ".join(cells).strip())
                headers += i < header_rows
        if not lines:
            return
        start = self._append("\n".join(lines), "\n\n")
        spans, at = [], start
        for line in lines:
            spans.append(Span(at, at + len(line)))
            at += len(line) + 1
        self._blocks.append(
            Block("table", start, self._length, 0, page, tuple(boxes), tuple(spans), headers)
        )

    def add_document(self, document: Document, *, page: int | None = None) -> None:
        """Append another document's text and blocks as they are, and its warnings.

        Args:
            document: A part that another parser has read: a cell, a chapter, an attachment.
            page: Page that its blocks get; None keeps theirs.
        """
        self.warnings += document.warnings
        if not document.text.strip():
            return
        shift = self._append(document.text, "\n\n")
        for block in document.blocks:
            rows = tuple(Span(a + shift, b + shift) for a, b in block.rows)
            self._blocks.append(
                dataclasses.replace(
                    block,
                    start=block.start + shift,
                    end=block.end + shift,
                    page=block.page if page is None else page,
                    rows=rows,
                )
            )

    def new_page(self) -> None:
        """What follows stands on the next page, slide or sheet."""
        self._pages.append(self._length)

    def build(self) -> Document:
        """The document as collected so far."""
        ends = [*self._pages[1:], self._length] if self._pages else []
        return Document(
            self.name,
            "".join(self._parts),
            tuple(self._blocks),
            tuple(Span(a, b) for a, b in zip(self._pages, ends, strict=True)),
            self.title,
            self.metadata,
            tuple(self.warnings),
        )

    def _append(self, text: str, separator: str) -> int:
        if self._length:
            self._parts.append(separator)
            self._length += len(separator)
        start = self._length
        self._parts.append(text)
        self._length += len(text)
        return start
