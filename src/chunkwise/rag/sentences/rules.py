"""Sentences by rules: terminators, abbreviations, numbers, quotations, lists, line breaks.

One regular expression finds every place where a sentence may end; rules look only there. Works
in Latin, Cyrillic, Greek, Arabic, Hebrew, Devanagari, Han, kana, Hangul and Thai script.

Source: none; the usual rules, with word lists per language in `languages.py`.
Exact when: never promised; F1 per language in `benchmarks/sentences.py`.
Cost: linear; some 5 million characters a second in English. Every decision reads a bounded
    stretch around its place, so a stream and the whole text give the same sentences.
Helps or hurts: most on wrapped lines (boundary F1 0.89 to 1.00 against 0.43 to 0.77 of a naive
    split) and legal text; on clean prose a naive split is nearly as good. Thai has neither
    terminators nor spaces between words: sentences are guessed at spaces, half of them wrongly
    (F1 0.53). An item of a list is a sentence, also where it grammatically goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from chunkwise.errors import ConfigError
from chunkwise.rag.sentences.guess import guess_language
from chunkwise.rag.sentences.languages import THAI_FINALS, THAI_OPENERS
from chunkwise.rag.sentences.lines import break_ends
from chunkwise.rag.sentences.marks import (
    BLANK_LINE,
    BREAKS,
    CANDIDATE,
    CANDIDATE_THAI,
    CLOSERS,
    HARD,
    LINE_BREAK,
    MAX_SPACE,
    NEXT,
    PARTICLE,
    SOFT,
    SPACE,
)
from chunkwise.rag.sentences.periods import Following, TerminatorRules
from chunkwise.types import Span

__all__ = ["RuleSegmenter"]

_WINDOW: Final = 32_768  # characters of which the language is guessed anew
_SAMPLE: Final = 2_048  # characters that the guess reads
_REACH: Final = 4_096  # no decision reads further, back or ahead
_THAI_OPENERS: Final = tuple(THAI_OPENERS)
_THAI_FINALS: Final = tuple(THAI_FINALS)
_READ: Final = 65_536  # characters of a stream that are looked at together


@dataclass(frozen=True)
class RuleSegmenter:
    """Splits text into sentences by rules.

    Args:
        max_chars: Longest sentence, in characters, at least 256. A longer run without an end is
            cut, after white space if the last eighth has some. Bounds the memory of `stream`.
    """

    max_chars: int = 20_000
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        if self.max_chars < 256:
            raise ConfigError(f"`max_chars` must be at least 256, got {self.max_chars!r}.")
        object.__setattr__(self, "fingerprint", f"rules-1-{self.max_chars}")

    def split(self, text: str, language: str | None = None) -> list[Span]:
        """See `chunkwise.types.Segmenter`. Takes 100 MB in one line as well as in many."""
        scanner = _Scanner(self.max_chars, language)
        return scanner.scan(text, is_last=True)

    def stream(
        self, pieces: Iterable[str], language: str | None = None
    ) -> Iterator[tuple[Span, str]]:
        """Sentences of a text that comes in pieces: the spans of `split`, with their text.

        Holds at most about `max_chars` + 140,000 characters, whatever the pieces' sizes up to
        that.

        Args:
            pieces: The text, cut anywhere.
            language: As in `split`.
        """
        scanner = _Scanner(self.max_chars, language)
        waiting: list[str] = []
        size, text = 0, ""
        for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= _READ:
                text = "".join([text, *waiting])
                yield from _with_text(text, scanner.base, scanner.scan(text))
                text = scanner.drop(text)
                waiting, size = [], 0
        text = "".join([text, *waiting])
        yield from _with_text(text, scanner.base, scanner.scan(text, is_last=True))


def _with_text(text: str, base: int, spans: list[Span]) -> Iterator[tuple[Span, str]]:
    for span in spans:
        yield span, text[span.start - base : span.end - base]


class _Scanner:
    """Walks over a text, or over a window of it that moves on. All state between two calls.

    Attributes:
        base: Offset in the whole text of the window's first character.
    """

    def __init__(self, max_chars: int, language: str | None) -> None:
        self.base = 0
        self._max_chars = max_chars
        self._fixed = language
        self._code = language or ""
        self._rules = TerminatorRules(self._code)
        self._window = -1  # number of the window whose language is in force
        self._sentence = 0  # where the open sentence begins, in the window
        self._next = 0  # first place not decided yet, in the window
        self._found: list[Span] = []

    def scan(self, text: str, *, is_last: bool = False) -> list[Span]:
        """Spans, in the whole text, of the sentences that end where enough text is known."""
        self._found = []
        limit = len(text) if is_last else len(text) - _REACH
        while self._next < limit:
            position = self.base + self._next
            window_end = (position // _WINDOW + 1) * _WINDOW - self.base
            if position // _WINDOW != self._window:
                self._window = position // _WINDOW
                self._choose_rules(text)
            self._scan_window(text, min(window_end, limit))
        self._cut_long(text, min(self._next, len(text)))
        if is_last:
            self._close(text, len(text))
        return self._found

    def drop(self, text: str) -> str:
        """What of the window is needed further; the window moves on to it."""
        keep = max(0, min(self._sentence, self._next - _REACH))
        self.base += keep
        self._sentence -= keep
        self._next -= keep
        return text[keep:]

    def _choose_rules(self, text: str) -> None:
        if self._fixed is not None:
            return
        code = guess_language(text[self._next : self._next + _SAMPLE], self._code)
        if code != self._code:
            self._code, self._rules = code, TerminatorRules(code)

    def _scan_window(self, text: str, end: int) -> None:
        pattern = CANDIDATE_THAI if self._code == "th" else CANDIDATE
        at = self._next
        for match in pattern.finditer(text, at, end + _REACH):
            if match.start() >= end:
                break
            at = match.end()
            if match.start() < self._sentence:
                continue  # a blank line after a sentence that has ended
            self._cut_long(text, match.start())
            stop = self._end_at(text, match.start(), at)
            if stop:
                self._close(text, stop)
        self._next = max(at, end)

    def _end_at(self, text: str, start: int, end: int) -> int:
        """Where the sentence ends because of the candidate at `start`; 0 if it goes on."""
        after = _skip_space(text, end)
        mark = text[start]
        length = after - end
        if after >= len(text) or length >= MAX_SPACE:
            return _with_spaced_closer(text, end, after)
        if length > 1 and BLANK_LINE.search(text, end, after):
            return end
        if mark in BREAKS:
            return end if self._break_ends(text, start, end, after) else 0
        if mark == " ":
            return end if _thai_ends(text, self._sentence, start, after) else 0
        if mark in HARD:
            return end if _hard_ends(text, end, after) else 0
        closed = _with_spaced_closer(text, end, after)
        if closed != end:
            end, after = closed, _skip_space(text, closed)
        following = _following(text, after)
        if after == end and not _joins(text, start, following):
            return 0
        marks = text[start:end]
        return end if self._rules.ends(text, self._sentence, start, marks, following) else 0

    def _break_ends(self, text: str, start: int, end: int, after: int) -> bool:
        is_pair = text[start] == "\r" and text[end : end + 1] == "\n"
        is_blank_line = LINE_BREAK.search(text, end + is_pair, after) is not None
        return is_blank_line or break_ends(text, start, after)

    def _close(self, text: str, end: int) -> None:
        """End the open sentence at `end`, cut it if it is too long, and open the next."""
        self._cut_long(text, end)
        self._add(text, self._sentence, end)
        self._sentence = _skip_space(text, end)

    def _cut_long(self, text: str, end: int) -> None:
        while end - self._sentence > self._max_chars:
            cut = self._sentence + self._max_chars
            low = cut - self._max_chars // 8
            space = max(text.rfind(" ", low, cut), text.rfind("\n", low, cut))
            cut = space + 1 if space > 0 else cut
            self._add(text, self._sentence, cut)
            self._sentence = cut

    def _add(self, text: str, start: int, end: int) -> None:
        piece = text[start:end]
        stripped = piece.lstrip()
        if stripped:
            first = self.base + end - len(stripped)
            self._found.append(Span(first, first + len(stripped.rstrip())))


def _skip_space(text: str, at: int) -> int:
    match = SPACE.match(text, at)
    return match.end() if match else at


def _following(text: str, after: int) -> Following:
    """What stands at `after`, the first character that is not blank."""
    match = NEXT.match(text, after)
    if match is None or not match["word"]:
        at = after if match is None else match.end()
        mark = text[at : at + 1]
        is_mark = at == after and (mark in SOFT or mark in ",;:/" or mark in CLOSERS)
        return Following("mark" if mark and is_mark else "other", "", at > after)
    word, first = match["word"], match["word"][0]
    opens = match.start("word") > after
    if first.isupper() or first.istitle():
        return Following("upper", word, opens)
    if first.islower():
        return Following("lower", word, opens)
    return Following("digit" if first.isdigit() else "other", word, opens)


def _joins(text: str, start: int, following: Following) -> bool:
    """True when a terminator without white space after it may still end a sentence."""
    if start == 0 or not text[start - 1].isalpha():
        return False
    return following.kind in ("upper", "other") and bool(following.word)


def _hard_ends(text: str, end: int, after: int) -> bool:
    """False where a quotation closed and its sentence goes on."""
    return text[end - 1] not in CLOSERS or not PARTICLE.match(text, after)


def _with_spaced_closer(text: str, end: int, after: int) -> int:
    """End of the sentence with a closing mark that stands apart: `mot. »`, `left. "`."""
    if after == end or text[after : after + 1] not in ('"', "»", "”", ")", "]"):
        return end
    return after + 1 if (text[after + 1 : after + 2] or " ").isspace() else end


def _thai_ends(text: str, sentence: int, start: int, after: int) -> bool:
    """A guess: the run before is long, and a word that opens or ends a sentence stands here."""
    length = start - sentence
    if length < 30:
        return False
    return (
        length > 80
        or text.startswith(_THAI_OPENERS, after)
        or text.endswith(_THAI_FINALS, 0, start)
    )
