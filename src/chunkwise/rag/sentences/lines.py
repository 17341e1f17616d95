"""Does a single line break end a sentence, or is the line only wrapped?"""

from __future__ import annotations

from typing import Final

from chunkwise.rag.sentences.marks import BREAKS, ITEM, OPENERS

MAX_WRAP: Final = 160
"""Longest line that is taken for a wrapped one, in characters."""

_MIN_WRAP: Final = 30
_TITLE_WORDS: Final = 12


def break_ends(text: str, at: int, after: int) -> bool:
    """True when the line break at `at` ends a sentence; `after` is the next character that is
    not blank.

    A break is taken for wrapping when the line could not have held the first word of the next
    one, judged by the longest of the lines around it, or when the next line begins in lower
    case and the line before is no title. Reads at most `3 * MAX_WRAP` characters either side.
    """
    line = _line_before(text, at)
    following = _line_after(text, after)
    if not line or not following or ITEM.match(following) or line[0] in "#|>":
        return True
    if line[-1] in ".…":
        return False  # it was no end there either: an abbreviation, or the number of an item
    begins_lower = following.lstrip(OPENERS)[:1].islower()
    if line[-1] in ":|" and not begins_lower:
        return True
    if begins_lower:
        return not _goes_on(line)
    return not _looks_wrapped(text, at, line, following)


def _goes_on(line: str) -> bool:
    """True when a line before one in lower case is long, or ends as no title would."""
    return len(line) >= _MIN_WRAP or line[-1] in ",;-–(" or line[-1].islower()


def _looks_wrapped(text: str, at: int, line: str, following: str) -> bool:
    if not _MIN_WRAP <= len(line) <= MAX_WRAP or _is_title(line):
        return False
    before = _line_before(text, at - len(line) - 1) if at > len(line) else ""
    width = max(len(line), len(following), len(before))
    if width > MAX_WRAP:
        return False
    first_word = following.split(None, 1)[0]
    return len(line) + 1 + len(first_word) > width


def _is_title(line: str) -> bool:
    """True when most words of a line without an end begin in upper case."""
    words = line.split()
    capitals = sum(word[0].isupper() or word[0].isdigit() for word in words)
    return len(words) <= _TITLE_WORDS and capitals * 3 > len(words) * 2


def _line_before(text: str, end: int) -> str:
    """The line that ends at `end`, its last `MAX_WRAP + 1` characters, edges trimmed."""
    lines = text[max(0, end - MAX_WRAP - 1) : end].rstrip(BREAKS).splitlines()
    return lines[-1].strip() if lines else ""


def _line_after(text: str, start: int) -> str:
    """The line that begins at `start`, its first `MAX_WRAP + 1` characters, edges trimmed."""
    lines = text[start : start + MAX_WRAP + 1].splitlines()
    return lines[0].rstrip() if lines else ""
