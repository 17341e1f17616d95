"""What chunkers share: tokens counted once, packing, the size limit, overlap.

A text is tokenised once. Where a cut stands beside white space and the counter is additive,
lengths are differences of token numbers; everywhere else the chunk is counted before it is
accepted and made shorter until it fits. So the limit holds for every counter.
"""

from __future__ import annotations

import bisect
import itertools
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence

from chunkwise.errors import ConfigError
from chunkwise.rag._tiling import segment_dp
from chunkwise.types import Document, Segmenter, Span, TokenCounter

MAX_CHARS_PER_TOKEN = 32
"""A chunk has at most `size` times as many characters: one token may stand for a megabyte."""

Choose = Callable[[int, int, int], int]
"""`(start, low, reach) -> stop`: where to end a chunk that starts at `start`, at most at
`reach`, preferably not before `low`; `start < stop <= reach`."""

Tile = Callable[["Ruler", Sequence[Span], int], Iterable[tuple[int, int]]]
"""`(ruler, sentences, room) -> runs`, in order and without gaps, that should fit `room` tokens."""

_LAST_SHARE = 0.7  # most of what is left that the last chunk but one takes
_CLEAN = frozenset(" \n\t\r")
_TEXT = re.compile(r"\S")
_CLOSING = r"""[.!?…][.!?…)\]}"'”’»*_]*"""
_WIDE_CLOSING = r"[。！？｡][」』）”’]*"
_BREAKS = tuple(
    re.compile(rf"(?s:.*)(?:{pattern})")
    for pattern in (
        r"\n[^\S\n]*\n\s*",  # paragraphs
        # A line that ends or begins something: text wrapped at a width has line ends elsewhere.
        r"""(?<=[.!?:;…。！？"'”’)\]}>|])[^\S\n]*\n\s*|\n(?=[^\S\n]*(?:[-*+•#|>]|\d+[.)])\s)""",
        rf"{_CLOSING}\s++(?![a-z])|{_WIDE_CLOSING}",  # sentences
        r"\n\s*",
        r"[,;:–—)][^\S\n]*\s|[，；：、]",  # clauses
        r"\s+",
        r"[^\w\s]",
    )
)


class Ruler:
    """Measures spans of one document in tokens, tokenising its text once.

    Args:
        document: Its tables with header rows make room for the header in chunks that continue
            them, as long as it takes no more than half of `size`.
        counter: Counts tokens.
        size: Most tokens of a chunk.
    """

    def __init__(self, document: Document, counter: TokenCounter, size: int) -> None:
        self.text, self.counter, self.size = document.text, counter, size
        self.starts = counter.starts(self.text)
        self._tokens = memoryview(self.starts.data)
        self._max_chars = size * MAX_CHARS_PER_TOKEN
        self._headers = [
            (block.rows[block.header_rows - 1].end, block.end, header, tokens)
            for block in document.blocks
            if (header := table_header(document.text, block.rows, block.header_rows))
            and 2 * (tokens := counter.count(header + "\n") + 1) <= size
        ]

    def index(self, at: int, low: int = 0, room: int | None = None) -> int:
        """Number of tokens that start before the character `at`.

        Args:
            at: The character.
            low: A number that the result is not below, if one is known.
            room: How far above `low` it is, probably.
        """
        if room is not None and low + room < len(self._tokens):
            found = bisect.bisect_left(self._tokens, at, low, low + room)
            if found < low + room:
                return found
        return bisect.bisect_left(self._tokens, at, low)

    def header(self, start: int) -> tuple[str, int]:
        """Header rows to repeat with a chunk that starts there, and their tokens."""
        if not self._headers:
            return "", 0
        at = bisect.bisect_right(self._headers, start, key=lambda entry: entry[0]) - 1
        if at >= 0 and start < self._headers[at][1]:
            return self._headers[at][2:]
        return "", 0

    def count(self, start: int, end: int) -> int:
        """Tokens of `text[start:end]`, exactly."""
        if self.counter.is_additive and self.is_clean(start) and self.is_clean(end):
            return self.index(end) - self.index(start)
        return self.counter.count(self.text[start:end])

    def fits(self, start: int, end: int, size: int) -> bool:
        """Whether `text[start:end]` and the header it needs have at most `size` tokens."""
        if end - start > self._max_chars:
            return False
        header, tokens = self.header(start)
        if header and not self.counter.is_additive:
            return self.counter.count(f"{header}\n{self.text[start:end]}") <= size
        return tokens + self.count(start, end) <= size

    def seems_to_fit(self, start: int, end: int, size: int) -> bool:
        """`fits` by the text's own tokens: quick, and exact for additive counters."""
        tokens = self.index(end) - self.index(start) + self.header(start)[1]
        return tokens <= size and end - start <= self._max_chars

    def reach(self, start: int, index: int, tokens: int, end: int) -> int:
        """Furthest character, at most `end`, that `tokens` of the text's own tokens reach.

        Args:
            start: First character.
            index: Number of tokens before it.
            tokens: How many tokens to take.
            end: The limit.
        """
        at = index + tokens
        reach = self._tokens[at] if at < len(self._tokens) else end
        return min(reach, end, start + self._max_chars)

    def is_clean(self, at: int) -> bool:
        """Whether the place is an edge of the text or beside white space."""
        text = self.text
        return at <= 0 or at >= len(text) or text[at - 1] in _CLEAN or text[at] in _CLEAN


def check_sizes(size: int, overlap: int) -> None:
    """Check the options that all chunkers have.

    Raises:
        ConfigError: `size` below 1, or `overlap` not in [0, size).
    """
    if size < 1:
        raise ConfigError(f"`size` must be at least 1, got {size!r}.")
    if not 0 <= overlap < size:
        raise ConfigError(f"`overlap` must be in [0, size={size}), got {overlap!r}.")


def check_ratio(name: str, value: float) -> None:
    """Check an option that is a share.

    Raises:
        ConfigError: `value` is not in [0, 1].
    """
    if not 0 <= value <= 1:
        raise ConfigError(f"`{name}` must be in [0, 1], got {value!r}.")


def table_header(text: str, rows: Sequence[Span], header_rows: int) -> str:
    """The header rows of a table, verbatim; empty if it has none."""
    if not 0 < header_rows <= len(rows):
        return ""
    return text[rows[0].start : rows[header_rows - 1].end].strip()


def trim(text: str, start: int, end: int) -> Span | None:
    """The span without blank edges, or None if it is blank."""
    found = _TEXT.search(text, start, end)
    if found is None:
        return None
    start = found.start()
    return Span(start, start + len(text[start:end].rstrip()))


def best_break(text: str, start: int, low: int, reach: int) -> int:
    """The last break in `[low, reach]` of the largest kind there is; else before `low`.

    Kinds, largest first: paragraphs, lines that end or begin something, sentences, lines,
    clauses, words, punctuation, and last any place that is not inside a grapheme cluster.
    """
    low = max(low, start + 1)
    for first, last in ((low, reach), (start + 1, low)):
        for pattern in _BREAKS:
            found = pattern.match(text, first, last)
            if found is not None:
                return found.end()
    return whole_cluster(text, start, reach)


def whole_cluster(text: str, start: int, at: int) -> int:
    """`at`, or the nearest place before it that does not cut what is shown as one character.

    Stays at `at` if there is no such place after `start`.
    """
    if at >= len(text) or not _joins(text, at):
        return at
    for place in range(at - 1, max(start, at - 64), -1):
        if not _joins(text, place):
            return place
    return at


def pack(
    ruler: Ruler, region: Span, size: int, *, choose: Choose, fill: float, balance: bool = True
) -> Iterator[Span]:
    """Cut a region into chunks of at most `size` tokens, from the left.

    Args:
        ruler: Measures the text.
        region: What to cut; its blank edges and those of each chunk are left out.
        size: Most tokens of a chunk; not above the ruler's own.
        choose: Picks the place to cut when the rest is too long for one chunk.
        fill: Share of `size` below which `choose` should not go.
        balance: Cut the last two chunks nearer to equal.
    """
    text, additive = ruler.text, ruler.counter.is_additive
    whole = trim(text, *region)
    if whole is None:
        return
    (start, end), at = whole, ruler.index(whole.start)
    last = ruler.index(end)
    while True:
        room = max(1, size - ruler.header(start)[1])
        stop = end
        if (reach := ruler.reach(start, at, room, end)) < end:
            if balance and last - at < 2 * room:
                room = min(room, math.ceil(_LAST_SHARE * (last - at)))
                reach = ruler.reach(start, at, room, end)
            low = ruler.reach(start, at, int(room * fill), end)
            stop = choose(start, low, reach) if reach > start else start + 1
        chunk = Span(start, start + len(text[start:stop].rstrip()))
        is_counted = additive and ruler.is_clean(start) and ruler.is_clean(chunk.end)
        if not is_counted and not ruler.fits(*chunk, size):
            chunk = _shrink(ruler, chunk, size, choose=choose, fill=fill)
        yield chunk
        if (found := _TEXT.search(text, chunk.end, end)) is None:
            return
        start = found.start()
        at = ruler.index(start, at, room)


def breaks_of(text: str) -> Choose:
    """The choice of `best_break` in that text."""
    return lambda start, low, reach: best_break(text, start, low, reach)


def boundaries(places: Sequence[int], otherwise: Choose) -> Choose:
    """Choose the last of the sorted `places` within reach, or else `otherwise`."""

    def choose(start: int, low: int, reach: int) -> int:
        at = bisect.bisect_right(places, reach) - 1
        if at >= 0 and places[at] > start:
            return places[at]
        return otherwise(start, low, reach)

    return choose


def add_overlap(ruler: Ruler, spans: Iterable[Span], overlap: int) -> list[Span]:
    """Let each span begin earlier, at a word of the span before, by at most `overlap` tokens."""
    if not overlap:
        return list(spans)
    found: list[Span] = []
    before: Span | None = None
    for span in spans:
        found.append(span if before is None else _begin_earlier(ruler, before, span, overlap))
        before = span
    return found


def fitting_pieces(ruler: Ruler, units: Iterable[Span], size: int) -> list[Span]:
    """The units without blank edges, those that are too long cut at their largest breaks."""
    choose = breaks_of(ruler.text)
    return [piece for unit in units for piece in pack(ruler, unit, size, choose=choose, fill=0.5)]


def longest_run(ruler: Ruler, pieces: Sequence[Span], size: int) -> int:
    """Most neighbouring pieces that may fit together into `size` tokens, at least 1."""
    longest, first = 1, 0
    for last, piece in enumerate(pieces):
        while first < last and not ruler.seems_to_fit(pieces[first].start, piece.end, size):
            first += 1
        longest = max(longest, last - first + 1)
    return longest


def merge(
    ruler: Ruler, pieces: Sequence[Span], tiles: Iterable[tuple[int, int]], size: int
) -> list[Span]:
    """Spans of runs of pieces; a run that proves too long for the limit is cut again."""
    runs = (Span(pieces[i].start, pieces[j - 1].end) for i, j in tiles)
    return fitting_pieces(ruler, runs, size)


def tiled(
    document: Document,
    tile: Tile,
    *,
    counter: TokenCounter,
    segmenter: Segmenter,
    size: int,
    overlap: int,
) -> list[Span]:
    """Spans of a document whose sentences are put together into runs.

    Args:
        document: What to cut.
        tile: The runs; asked where there are two sentences or more.
        counter: Counts tokens.
        segmenter: Finds the sentences.
        size: Most tokens of a span.
        overlap: Tokens of the span before that a span repeats, at most.
    """
    ruler, room = Ruler(document, counter, size), size - overlap
    pieces = fitting_pieces(ruler, segmenter.split(document.text), room)
    if len(pieces) < 2:
        return pieces
    return add_overlap(ruler, merge(ruler, pieces, tile(ruler, pieces, room), room), overlap)


def best_runs(
    ruler: Ruler,
    pieces: Sequence[Span],
    size: int,
    gain: Callable[[int, int], float],
    *,
    longest: int | None = None,
) -> list[tuple[int, int]]:
    """The runs of pieces that seem to fit with the largest sum of `gain(first, end)`; one piece
    always fits.

    Args:
        ruler: Measures the text.
        pieces: In order.
        size: Most tokens of a run.
        gain: Worth of a run.
        longest: Most pieces of a run; None: as many as fit.
    """

    def fitting(i: int, j: int) -> float:
        if j - i > 1 and not ruler.seems_to_fit(pieces[i].start, pieces[j - 1].end, size):
            return -math.inf
        return gain(i, j)

    most = longest_run(ruler, pieces, size)
    return segment_dp(fitting, len(pieces), 1, most if longest is None else min(longest, most))


def merge_while_fit(
    ruler: Ruler, pieces: Sequence[Span], ends: Sequence[int], size: int
) -> list[tuple[int, int]]:
    """Runs of pieces that end at these, from the left joined while they fit together.

    Args:
        ruler: Measures the text.
        pieces: In order.
        ends: One past the last piece of each run, rising, the last one left out.
        size: Most tokens that are joined.
    """
    tiles: list[tuple[int, int]] = []
    for first, end in itertools.pairwise([0, *ends, len(pieces)]):
        if tiles and ruler.seems_to_fit(pieces[tiles[-1][0]].start, pieces[end - 1].end, size):
            tiles[-1] = (tiles[-1][0], end)
        else:
            tiles.append((first, end))
    return tiles


def _shrink(ruler: Ruler, chunk: Span, size: int, *, choose: Choose, fill: float) -> Span:
    """A chunk from the same start that keeps the limit: one character in the worst case."""
    text, (start, end) = ruler.text, chunk
    index = ruler.index(start)
    tokens = ruler.index(end) - index
    while end > start + 1 and not ruler.fits(start, end, size):
        over = ruler.counter.count(text[start:end]) + ruler.header(start)[1] - size
        tokens = max(0, min(tokens, ruler.index(end) - index) - max(1, over))
        reach = min(ruler.reach(start, index, tokens, end), end - 1)
        if tokens == 0 or reach <= start:  # a single token of the text, or part of one
            end = whole_cluster(text, start, start + (end - start) // 2)
        else:
            end = choose(start, ruler.reach(start, index, int(tokens * fill), reach), reach)
        end = start + len(text[start:end].rstrip())
    return Span(start, end)


def _begin_earlier(ruler: Ruler, before: Span, span: Span, overlap: int) -> Span:
    first = ruler.index(before.end) - overlap
    if first < 0:
        return span
    low = max(int(ruler.starts[first]), before.start + 1)
    for found in re.finditer(r"(?<!\S)\S", ruler.text[low - 1 : before.end]):
        start = low - 1 + found.start()
        if (
            start > before.start
            and ruler.count(start, before.end) <= overlap
            and ruler.fits(start, span.end, ruler.size)
        ):
            return Span(start, span.end)
    return span


def _joins(text: str, at: int) -> bool:
    """Whether the characters before and after `at` belong to one grapheme cluster."""
    left, right = text[at - 1], text[at]
    if right < "\u0300":
        return left == "\r" and right == "\n"
    if left == "\u200d" or right in "\u200d\u200c" or "\U0001f3fb" <= right <= "\U0001f3ff":
        return True
    if "\U0001f1e6" <= right <= "\U0001f1ff" and "\U0001f1e6" <= left <= "\U0001f1ff":
        return _flags_before(text, at) % 2 == 1
    return unicodedata.category(right) in ("Mn", "Me", "Mc")


def _flags_before(text: str, at: int) -> int:
    count = 0
    while count < at and "\U0001f1e6" <= text[at - 1 - count] <= "\U0001f1ff":
        count += 1
    return count
