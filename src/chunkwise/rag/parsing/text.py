"""Plain text of any kind: the canonical text is the file's own, character for character."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from chunkwise.rag.parsing.encodings import decode
from chunkwise.types import Block, Document, Span

__all__ = ["TextParser"]

_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_SOLID = re.compile(r"\S")
_ITEM = re.compile(
    r"^(?P<indent>[^\S\n]*)(?:[-*+•‣◦·–]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)]|\[[ xX]\])"
    r"[^\S\n]+(?=\S)",
    re.M,
)
_RULE = re.compile(r"(?P<char>[=\-~^\"'`#*+:._<>])(?P=char){2,}[^\S\n]*")
_NUMBERED = re.compile(
    r"(?P<number>\d{1,3}(?:\.\d{1,3})*)\.?[^\S\n]+(?=[^\W\d_a-z])[^\n]*[^\W_]$", re.S
)
_CHAPTER = re.compile(
    r"(?:chapter|part|book|section|appendix|act|scene|volume)[^\S\n]+(?:\d+|[ivxlc]+|[a-z]|one|two|"
    r"three|four|five|six|seven|eight|nine|ten|the [a-z]+)\b[.:]?"
    r"(?:[^\S\n]*[-–—:.]?[^\S\n]+[^\n]*)?$",
    re.I,
)
_DIRECTIVE = re.compile(r"\.\. (?:code-block|sourcecode|code|highlight)::[^\S\n]*(?P<language>\S*)")
_MAX_HEADING_CHARS = 100


@dataclass(frozen=True)
class TextParser:
    """Paragraphs, list items, and headings that are underlined or numbered."""

    suffixes: ClassVar[tuple[str, ...]] = (
        *(".txt", ".text", ".rst", ".rest", ".log", ".asc", ".adoc", ".asciidoc", ".org", ".tex"),
        *(".srt", ".vtt", ".toml", ".yaml", ".yml", ".ini", ".cfg", ".conf", ".properties"),
        *(".env", ".sql", ".diff", ".patch", ".bib", ".textile"),
    )

    def parse(self, data: bytes, *, name: str) -> Document:
        """Parse a whole file.

        Raises:
            DocumentError: The bytes are no text.
        """
        text = decode(data, name=name)
        blocks = tuple(_Reader(text).blocks())
        first = blocks[0] if blocks else None
        title = first.name if first and first.kind == "heading" else ""
        return Document(name, text, blocks, title=title)


class _Reader:
    """Walks over the paragraphs of a text once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.styles: list[str] = []  # underline styles, in order of first use
        self.paragraphs = [span for span in self._paragraphs() if span.start < span.end]
        self.language: str | None = None  # of the indented code that may follow

    def blocks(self) -> Iterator[Block]:
        """Blocks in text order."""
        for i, (start, end) in enumerate(self.paragraphs):
            yield from self._paragraph(i, start, end)

    def _paragraphs(self) -> Iterator[Span]:
        """Runs of lines that are not blank, from line start, blank end trimmed."""
        at = 0
        for gap in _BLANK_LINES.finditer(self.text):
            yield self._trimmed(at, gap.start())
            at = gap.end()
        yield self._trimmed(at, len(self.text))

    def _trimmed(self, start: int, end: int) -> Span:
        solid = _SOLID.search(self.text, start, end)
        if solid is None:
            return Span(start, start)
        start = max(start, self.text.rfind("\n", start, solid.start()) + 1)
        return Span(start, start + len(self.text[start:end].rstrip()))

    def _paragraph(self, i: int, start: int, end: int) -> Iterator[Block]:
        is_indented = self.text[start] in " \t"
        if self.language is not None and is_indented:
            yield Block("code", start, end, name=self.language)
            return
        self.language = self._announced_code(start, end)
        heading = self._underlined(start, end) or self._numbered(i, start, end)
        if heading is None:
            yield from self._items(start, end)
            return
        yield heading
        rest = self._trimmed(heading.end, end)
        if rest.start < rest.end:
            yield from self._paragraph(i, rest.start, rest.end)

    def _announced_code(self, start: int, end: int) -> str | None:
        """Language of the indented code that this paragraph announces, the reST way."""
        directive = _DIRECTIVE.match(self.text, start, end)
        if directive:
            return directive["language"]
        return "" if self.text.endswith("::", start, end) else None

    def _underlined(self, start: int, end: int) -> Block | None:
        lines = self.text[start : min(end, start + 4 * _MAX_HEADING_CHARS)].split("\n")[:3]
        over = bool(len(lines) == 3 and _RULE.fullmatch(lines[0]) and lines[0][0] == lines[2][:1])
        if len(lines) < 2 + over:
            return None
        title, rule = lines[over], lines[over + 1]
        is_rule = _RULE.fullmatch(rule) and len(rule.rstrip()) >= len(title.rstrip())
        if not (is_rule and 0 < len(title.strip()) <= _MAX_HEADING_CHARS) or _RULE.fullmatch(title):
            return None
        style = rule[0] + "=" * over
        if style not in self.styles:
            self.styles.append(style)
        length = sum(len(line) + 1 for line in lines[: over + 2]) - 1
        level = self.styles.index(style) + 1
        return Block("heading", start, min(end, start + length), level, name=title.strip())

    def _numbered(self, i: int, start: int, end: int) -> Block | None:
        """A line of its own that starts with a section number or a word such as Chapter."""
        if end - start > _MAX_HEADING_CHARS or "\n" in self.text[start:end]:
            return None
        line = self.text[start:end].strip()
        if _CHAPTER.match(line) and line[-1] not in ",;?!":
            return Block("heading", start, end, 1, name=line)
        number = _NUMBERED.match(line)
        if number is None:
            return None
        level = number["number"].count(".") + 1
        if level == 1 and self._has_numbered_neighbour(i):
            return None  # a list with blank lines between its items
        return Block("heading", start, end, level, name=line)

    def _has_numbered_neighbour(self, i: int) -> bool:
        near = self.paragraphs[max(0, i - 1) : i] + self.paragraphs[i + 1 : i + 2]
        return any(re.match(r"\s*\d{1,3}[.)]?\s", self.text[a : a + 20]) for a, _ in near)

    def _items(self, start: int, end: int) -> Iterator[Block]:
        """List items, if the paragraph starts with one or announces them by a colon."""
        starts: list[tuple[int, int]] = []  # (start, indentation)
        for item in _ITEM.finditer(self.text, start, end):
            at = item.start()
            if starts or at == start or self.text[at - 2 : at - 1] == ":":
                starts.append((at, len(item["indent"].expandtabs(4))))
        yield from self._piece(start, starts[0][0] if starts else end, 0)
        indents: list[int] = []
        for k, (at, indent) in enumerate(starts):
            while indents and indents[-1] >= indent:
                indents.pop()
            indents.append(indent)
            yield from self._piece(
                at, starts[k + 1][0] if k + 1 < len(starts) else end, len(indents)
            )

    def _piece(self, start: int, end: int, level: int) -> Iterator[Block]:
        start, end = self._trimmed(start, end)
        if start < end:
            solid = _SOLID.search(self.text, start, end)
            assert solid is not None, "a trimmed span is not blank"
            yield Block("list_item" if level else "paragraph", solid.start(), end, level)
