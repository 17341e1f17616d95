"""Source code by its lines: where it can be cut, and which definitions are around a place.

No grammar is read. A line that opens a definition is told by its words, what it holds by
indentation: enough for most languages, and for code within documents.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from typing import NamedTuple

from chunkwise.types import Block, Document

CODE_KINDS = frozenset({"code", "definition"})
"""Kinds of blocks that are source code."""

_LONGEST = 300  # characters of a line that may open a definition
_LINE = re.compile(r"^([^\S\n]*)(\S[^\n]*)", re.MULTILINE)
_ATTACHED = re.compile(r"#|//|/\*|\*|@|--|;;")
_CLOSING = re.compile(
    r"[)}\]>]|(?:end|else|elif|elsif|except|rescue|catch|finally|ensure|then|done|fi|esac|in)\b"
)
_DEFINITION = re.compile(
    r"(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|sealed|"
    r"virtual|override|inline|extern|unsafe|const|partial|data|open|pub(?:\([^)\n]*\))?)\s+)*(?:"
    r"(?:def|class|function|func|fun|fn|interface|struct|enum|trait|impl|mod|module|namespace|"
    r"object|record|protocol|extension|sub|type|union)\*?(?:\s+[\w$*~&(\"']|\s*<)"
    r"|(?:const|let|var)\s+[\w$]+\s*=\s*(?:async\s*)?(?:function\b|\([^)\n]*\)\s*=>)"
    r"|(?!(?:if|for|foreach|while|switch|return|else|do|catch|with|using|match|when|try|new|lock)\b)"
    r"[\w$][\w$<>\[\],.:*&?~ ]*\([^;{}\n]*\)[^;(){}\n]*\{\s*\Z)"
)


class LinePlace(NamedTuple):
    """The start of a line, and how well source code can be cut there: larger is better.

    Attributes:
        rank: 3 at a definition with what stands above it, 2 behind a blank line, 1 at another
            line, 0 at one that goes on with what is before.
        outwards: Minus its indentation.
        at: First character that is not blank.
    """

    rank: int
    outwards: int
    at: int


def line_places(text: str, start: int, reach: int) -> Iterator[LinePlace]:
    """Starts of lines in `(start, reach]`, in order; comments and decorators go with what follows.

    Args:
        text: The text.
        start: Where the chunk begins.
        reach: Where it ends at the latest.
    """
    held: tuple[int, int, int] | None = None  # rank, indentation, start of comments above
    last = start
    end = text.find("\n", reach, reach + _LONGEST)
    for line in _LINE.finditer(text, start, end if end >= 0 else reach + _LONGEST):
        at, indent = line.start(2), _indent(line[1])
        if at > reach:
            return
        is_apart = text.count("\n", last, at) > 1
        held = None if is_apart else held
        last = line.end()
        rank = 2 if is_apart else 1
        if _ATTACHED.match(text, at):
            held = held or (rank, indent, at)
            continue
        if _opens(line[2]):
            first = held[2] if held else at
            yield from _after(start, LinePlace(3, -indent, first))
        elif held:
            yield from _after(start, LinePlace(held[0], -held[1], held[2]))
        else:
            rank = 0 if _CLOSING.match(text, at) else rank
            yield from _after(start, LinePlace(rank, -indent, at))
        held = None


class Scopes:
    """Lines that open the definitions around places of a document, asked for in any order."""

    def __init__(self, document: Document) -> None:
        self._text = document.text
        self._blocks = [block for block in document.blocks if block.kind in CODE_KINDS]
        self._starts = [block.start for block in self._blocks]
        self._inside: dict[int, _Lines] = {}
        self._around = list(self._surroundings())

    def above(self, start: int) -> tuple[str, ...]:
        """The lines, outermost first, of the definitions that were open before `start`."""
        at = bisect.bisect_right(self._starts, start) - 1
        if at < 0 or start >= self._blocks[at].end:
            return ()
        return (*self._around[at], *self._lines(at).open_at(start))

    def _surroundings(self) -> Iterator[tuple[str, ...]]:
        """For each block, what is open where it begins; plain code between two members is in what
        both are in."""
        levels = [max(1, b.level) if b.kind == "definition" else 0 for b in self._blocks]
        following = _next_levels(levels)
        stack: list[tuple[int, str]] = []
        for at, (block, level) in enumerate(zip(self._blocks, levels, strict=True)):
            limit = level or following[at]
            stack = [entry for entry in stack if entry[0] < limit]
            yield tuple(line for _, line in stack)
            if level and following[at] > level:
                opened = self._lines(at).open_at(block.end)
                stack.append((level, opened[0] if opened else block.name))

    def _lines(self, at: int) -> _Lines:
        if at not in self._inside:
            self._inside[at] = _Lines(self._text, self._blocks[at])
        return self._inside[at]


class _Lines:
    """What is open where in one block, by its indentation."""

    def __init__(self, text: str, block: Block) -> None:
        self._places, self._open = [block.start], [()]  # type: list[int], list[tuple[str, ...]]
        stack: list[tuple[int, str]] = []
        first = text.rfind("\n", 0, block.start) + 1
        begin = block.start if text[first : block.start].strip() else first
        for line in _LINE.finditer(text, begin, block.end):
            at, indent = line.start(2), _indent(line[1])
            is_closing = _CLOSING.match(text, at) is not None
            while stack and (stack[-1][0] > indent or (stack[-1][0] == indent and not is_closing)):
                stack.pop()
                self._note(at, stack)
            if _opens(line[2]):
                stack.append((indent, line[2].rstrip()))
                self._note(at + 1, stack)

    def _note(self, at: int, stack: list[tuple[int, str]]) -> None:
        self._places.append(at)
        self._open.append(tuple(line for _, line in stack))

    def open_at(self, start: int) -> tuple[str, ...]:
        """The lines that opened what is open before `start`, outermost first."""
        return self._open[bisect.bisect_right(self._places, start) - 1]


def _next_levels(levels: list[int]) -> list[int]:
    """For each block the level of the next definition behind it; 0: there is none."""
    found, level = [0] * len(levels), 0
    for at in range(len(levels) - 1, -1, -1):
        found[at] = level
        level = levels[at] or level
    return found


def _after(start: int, place: LinePlace) -> Iterator[LinePlace]:
    if place.at > start:
        yield place


def _opens(line: str) -> bool:
    """Whether a line opens a definition."""
    return len(line) <= _LONGEST and _DEFINITION.match(line) is not None


def _indent(blanks: str) -> int:
    return len(blanks.expandtabs(4))
