"""Windows of `size` tokens, wherever they end: the baseline that every chunker has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from chunkwise.rag.chunking.pieces import Ruler, check_sizes, pack, trim, whole_cluster
from chunkwise.types import Document, Query, Span, TokenCounter

__all__ = ["FixedChunker"]


@dataclass(frozen=True, kw_only=True)
class FixedChunker:
    """Windows of exactly `size` tokens of the text; each starts `size - overlap` after the last.

    A window is shorter where its own tokens, counted alone, would be more than `size`.

    Attributes:
        counter: Counts the tokens.
        size: Tokens of a window.
        overlap: Tokens that a window repeats, in [0, size).
    """

    counter: TokenCounter
    size: int = 140
    overlap: int = 0

    def __post_init__(self) -> None:
        check_sizes(self.size, self.overlap)

    def split(self, document: Document, query: Query | None = None) -> list[Span]:
        """Spans of the chunks; see `Chunker`."""
        ruler = Ruler(document, self.counter, self.size)
        spans: list[Span] = []
        start, end = 0, len(document.text)
        while (window := self._window(ruler, Span(start, end))) is not None:
            if spans and window.end <= spans[-1].end:  # nothing new fits behind the overlap
                start = spans[-1].end
                continue
            spans.append(window)
            if trim(document.text, window.end, end) is None:
                break
            start = self._next(ruler, window)
        return spans

    def _window(self, ruler: Ruler, rest: Span) -> Span | None:
        def at_limit(start: int, low: int, reach: int) -> int:
            return whole_cluster(ruler.text, start, reach)

        windows = pack(ruler, rest, self.size, choose=at_limit, fill=1.0, balance=False)
        return next(windows, None)

    def _next(self, ruler: Ruler, window: Span) -> int:
        """Where the window after this one starts: `overlap` tokens before its end."""
        last = ruler.index(window.end)
        for first in range(max(0, last - self.overlap), last):
            repeated = trim(ruler.text, int(ruler.starts[first]), window.end)
            if repeated is None or repeated.start <= window.start:
                continue
            if ruler.count(*repeated) <= self.overlap:
                return repeated.start
        return window.end
