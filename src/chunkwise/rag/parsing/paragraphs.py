"""Lines of a page to paragraphs, list items, tables and code."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from chunkwise.rag.parsing.geometry import Line
from chunkwise.rag.parsing.grid import Grid, grids
from chunkwise.types import BlockKind

_BULLET = re.compile(r"^(?:[•◦▪‣●○■□∙➢✓►]\s*|[–—*·-]\s+)(?=\S)")
_NUMBER = re.compile(
    r"^(?:\(?(?:\d{1,2}|[a-z]|[ivx]{1,4})\)|(?:\d{1,2}|[a-z])\.|\[\d{1,3}\])\s+(?=\S)"
)
_ENDS = (".", "?", "!", ":", "。", "؟", ";", "”", '"')
_CAPTION = re.compile(
    r"^(?:fig(?:ure|\.)?|table|tab\.|algorithm|listing|chart)\s*[\dIVXA-Z][\d.]*\s*[.:|–—-]",
    re.IGNORECASE,
)
_NOTE = re.compile(r"^(?:\d{1,2}|[*†‡§¶]+)\s?[^\W\d_]")
_MOST_BETWEEN = 4
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u3001\u3002\uff00-\uffef]")
_HANGUL = re.compile(r"[\uac00-\ud7a3]")
_LAST_WORD = re.compile(r"[^\W\d_]+$")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


@dataclass(slots=True)
class Draft:
    """A block to be: its kind, its lines, and a table's rows."""

    kind: BlockKind
    lines: list[Line]
    grid: Grid | None = None
    level: int = 0


class Pitch:
    """Usual distance of baselines in font sizes, by font size."""

    def __init__(self, pages: Iterable[Sequence[Line]]) -> None:
        ratios: dict[float, list[float]] = {}
        for lines in pages:
            for a, b in pairwise(lines):
                ratio = (b.base - a.base) / a.size
                if a.region == b.region and abs(a.size - b.size) < 0.3 and 0.8 < ratio < 2.6:
                    ratios.setdefault(round(a.size), []).append(ratio)
        everything = [r for group in ratios.values() for r in group]
        self._default = _low(everything) if len(everything) >= 5 else 1.2
        self._by_size = {size: _low(group) for size, group in ratios.items() if len(group) >= 8}

    def __call__(self, size: float) -> float:
        """Distance in points that lines of a paragraph of this font size have."""
        return self._by_size.get(round(size), self._default) * size


def body_size(lines: Iterable[Line]) -> float:
    """Font size of most characters; 0 without any."""
    counts: Counter[float] = Counter()
    for line in lines:
        counts[round(line.size * 2) / 2] += len(line.text)
    return counts.most_common(1)[0][0] if counts else 0.0


def drafts(lines: Sequence[Line], pitch: Pitch) -> list[Draft]:
    """The blocks of one page, in reading order."""
    found: list[Draft] = []
    body = body_size(lines)
    for _, group in groupby(lines, key=lambda line: line.region):
        region = list(group)
        at = 0
        for grid in grids(region):
            _add(found, _text_drafts(region[at : grid.start], pitch, body))
            found.append(Draft("table", region[grid.start : grid.end], grid))
            at = grid.end
        _add(found, _text_drafts(region[at:], pitch, body))
    return found


class Joiner:
    """Joins the lines of a paragraph; words cut at a line's end become whole.

    Args:
        lines: All lines of the document; words that stand whole in them decide about hyphens.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        self._seen: Counter[str] = Counter()
        for line in lines:
            words = [match[0].casefold() for match in _WORD.finditer(line.text)]
            self._seen.update(words[:-1] if line.hyphenated else words)

    def join(self, lines: Sequence[Line]) -> str:
        """One string, without the line breaks."""
        text = lines[0].text
        for line in lines[1:]:
            text = self._append(text, line.text)
        return text.replace("\u00ad", "")

    def _append(self, text: str, line: str) -> str:
        if text.endswith("\u00ad"):
            return text[:-1] + line
        if _UNSPACED.match(text[-1:]) and _UNSPACED.match(line[:1]):
            return text + line
        if _HANGUL.match(text[-1:]) and _HANGUL.match(line[:1]):
            return text + ("" if self._is_word(text, line) else " ") + line
        if not text.endswith(("-", "\u2010")) or text[-2:-1].isspace() or len(text) < 2:
            return f"{text} {line}"
        if not text[-2].isalnum() or not line[:1].isalnum():
            return f"{text} {line}" if text[-2] in "-–" else text + line
        return text + line if self._keeps_hyphen(text, line) else text[:-1] + line

    def _is_word(self, text: str, line: str) -> bool:
        """Whether the end of `text` and the start of `line` are a word of the document."""
        left, right = _LAST_WORD.search(text), _WORD.match(line)
        return bool(left and right and self._seen[(left[0] + right[0]).casefold()])

    def _keeps_hyphen(self, text: str, line: str) -> bool:
        """Whether `text` ends with a hyphen of the word itself."""
        left = re.search(r"[\w-]*\w(?=.$)", text)
        right = re.match(r"[^\W\d_]+(?:-[^\W\d_]+)*", line)
        if left is None or right is None or not line[0].islower() or not text[-2].isalpha():
            return True
        a, b = left[0].casefold(), right[0].casefold()
        whole, hyphenated = self._seen[a + b], self._seen[f"{a}-{b}"]
        if whole or hyphenated:
            return hyphenated > whole
        first = b.split("-")[0]
        halves = min(self._seen[a], self._seen[first])
        return "-" in a or (halves >= 2 and min(len(a), len(first)) >= 4)


def _low(values: list[float]) -> float:
    """The first quartile: most baselines next to each other belong to one paragraph."""
    return sorted(values)[len(values) // 4]


def _add(found: list[Draft], more: Iterator[Draft]) -> None:
    """Append drafts; a sentence that goes on in the next column is joined."""
    for i, draft in enumerate(more):
        cut = _cut_paragraph(found) if i <= _MOST_BETWEEN else None
        if cut is not None and _goes_on(cut, draft):
            cut.lines += draft.lines
        else:
            found.append(draft)


def _cut_paragraph(found: Sequence[Draft]) -> Draft | None:
    """The last paragraph, notes, captions and tables after it left aside."""
    for draft in found[: -_MOST_BETWEEN - 2 : -1]:
        if draft.kind in ("paragraph", "list_item"):
            return draft
        if draft.kind not in ("note", "caption", "table"):
            return None
    return None


def _goes_on(last: Draft, draft: Draft) -> bool:
    a, b = last.lines[-1], draft.lines[0]
    return (
        a.region != b.region
        and draft.kind == "paragraph"
        and a.turn == b.turn
        and abs(a.size - b.size) < 0.3
        and a.style == b.style
        and b.text[:1].islower()
        and not a.text.endswith(_ENDS)
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """What surrounds a line: where full lines end, whether paragraphs hang, the body size."""

    right: float
    hangs: bool
    body: float


def _text_drafts(lines: Sequence[Line], pitch: Pitch, body: float) -> Iterator[Draft]:
    current: list[Line] = []
    for i, line in enumerate(lines):
        if current and _breaks(current, line, _place(lines, i - 1, body), pitch):
            yield _draft(current, lines, body)
            current = []
        current.append(line)
    if current:
        yield _draft(current, lines, body)


def _place(lines: Sequence[Line], i: int, body: float) -> _Place:
    line = lines[i]
    near = lines[max(0, i - 3) : i + 4]
    right = max(other.x1 for other in near if other.size < 1.5 * line.size)
    wide = lines[max(0, i - 12) : i + 13]
    left = min(other.x0 for other in wide)
    steps = [other.x0 - left for other in wide]
    indented = sum(0.8 * line.size < step < 4 * line.size for step in steps)
    return _Place(right, len(wide) >= 5 and indented >= 0.5 * len(wide), body)


def _breaks(current: list[Line], line: Line, place: _Place, pitch: Pitch) -> bool:
    """Whether a new block starts at `line`."""
    last, right = current[-1], place.right
    if _is_code(last) or _is_code(line):
        return not (_is_code(last) and _is_code(line)) or _far(last, line, 3 * pitch(line.size))
    if abs(last.size - line.size) > 0.08 * max(last.size, line.size):
        return True
    if _is_display(last, line, place.body):
        return False
    if _far(last, line, pitch(line.size) * (1.6 if _mid_sentence(last, line) else 1.25)):
        return True
    if max(len(last.cells), len(line.cells)) > 3 or _are_rows(last, line):
        return True
    if last.style != line.style and _style_edge(current, line, right):
        return True
    return _starts_item(current, line, right) or _indent_breaks(current, line, place)


def _is_display(last: Line, line: Line, body: float) -> bool:
    """Two lines of one large title."""
    large = line.size > 1.25 * body and line.style == last.style and not _is_item(line)
    return large and not _far(last, line, 1.5 * line.size) and not line.text[:1].isdigit()


def _far(last: Line, line: Line, distance: float) -> bool:
    step = line.base - last.base
    return step > distance + 0.5 or step < 0


def _mid_sentence(last: Line, line: Line) -> bool:
    return line.text[:1].islower() and not last.text.endswith(_ENDS)


def _style_edge(current: list[Line], line: Line, right: float) -> bool:
    """Bold or italic lines are parted from others, unless they go on in mid-sentence."""
    last = current[-1]
    short = _had_room(last, line, right) or _is_centred(last, line)
    if last.style.bold or last.style.italic:
        return short and all(other.style == last.style for other in current)
    return short or last.text.endswith(_ENDS)


def _had_room(last: Line, line: Line, right: float) -> bool:
    """Whether the first word of `line` would have stood in the line before: it ended there."""
    space = right - last.x1 if not last.rtl else last.x0 - line.x0
    return space > line.first_width + 0.8 * line.size and not last.hyphenated


def _starts_item(current: list[Line], line: Line, right: float) -> bool:
    if _BULLET.match(line.text):
        return True
    if not _NUMBER.match(line.text):
        return False
    ended = current[-1].text.endswith(_ENDS) or _had_room(current[-1], line, right)
    return ended or bool(_NUMBER.match(current[0].text))


def _indent_breaks(current: list[Line], line: Line, place: _Place) -> bool:
    first, last, right = current[0], current[-1], place.right
    step = line.x0 - last.x0
    open_sentence = _mid_sentence(last, line)
    room = _had_room(last, line, right)
    if line.rtl:
        return room and last.text.endswith(_ENDS)
    if _is_centred(last, line) and last.x1 < right - line.size:
        return False
    if step > 0.8 * line.size:
        hanging = open_sentence or place.hangs or (_is_item(first) and not room)
        full = not room and not last.text.endswith(_ENDS)
        return not (full or (hanging and len(current) == 1))
    if step < -0.8 * line.size:
        return (len(current) > 1 or room) and (place.hangs or not open_sentence)
    return room and not open_sentence


def _are_rows(last: Line, line: Line) -> bool:
    """Two lines with a cell of one column; gaps of justified text do not line up."""
    near = 0.7 * line.size
    for a in last.cells[1:]:
        for b in line.cells[1:]:
            short = max(a.x1 - a.x0, b.x1 - b.x0) < 0.3 * (line.x1 - line.x0)
            if abs(a.x0 - b.x0) < near or (short and abs(a.x1 - b.x1) < near):
                return True
    return False


def _is_centred(last: Line, line: Line) -> bool:
    """Lines of unlike width with one centre."""
    centred = abs((line.x0 + line.x1) - (last.x0 + last.x1)) < 2 * line.size
    return centred and abs(line.x0 - last.x0) > 0.8 * line.size


def _is_item(line: Line) -> bool:
    return bool(_BULLET.match(line.text) or _NUMBER.match(line.text))


def _is_code(line: Line) -> bool:
    return line.style.mono


def _draft(lines: list[Line], region: Sequence[Line], body: float) -> Draft:
    text = lines[0].text
    if all(_is_code(line) for line in lines) and len(lines) > 1:
        return Draft("code", lines)
    if _CAPTION.match(text):
        return Draft("caption", lines)
    if _NOTE.match(text) and lines[0].size < 0.93 * body:
        return Draft("note", lines)
    if _BULLET.match(text) or _NUMBER.match(text):
        indent = lines[0].x0 - min(line.x0 for line in region)
        return Draft("list_item", lines, level=1 + min(int(indent / (2 * lines[0].size)), 5))
    return Draft("paragraph", lines)


def code(lines: Sequence[Line]) -> str:
    """Lines of code with the indentation that they have on the page."""
    left = min(line.x0 for line in lines)
    widths = [(line.x1 - line.x0) / max(len(line.text), 1) for line in lines]
    width = statistics.median(widths) or 1.0
    return "\n".join(" " * round((line.x0 - left) / width) + line.text for line in lines)
