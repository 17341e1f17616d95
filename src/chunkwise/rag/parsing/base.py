"""The parser protocol, the builder all parsers write to, and the choice of a parser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

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
    "chunkwise.rag.parsing", shared=("base", "worker", "encodings")
)


class DocumentBuilder:
    """Collects text and blocks; offsets hold by construction.

    Blocks are parted by one blank line, pages by the same; a table is one line a row, cells
    parted by ` | `. Text given to it is kept as it is, except that edge newlines are trimmed.
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
        text = text.strip("\n")
        if text.strip():
            start = self._append(text, "\n" if tight else "\n\n")
            self._blocks.append(
                Block(kind, start, self._length, level, page, tuple(boxes), (), 0, name)
            )

    def add_table(
        self,
        rows: Sequence[Sequence[str]],
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

    def new_page(self) -> None:
        """What follows stands on the next page, slide or sheet."""
        self._pages.append(self._length)

    def build(self) -> Document:
        """The document as collected so far."""
        ends = [*self._pages[1:], self._length]
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
