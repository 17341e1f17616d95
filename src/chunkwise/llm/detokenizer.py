"""Tokens to text while they come: no half characters, stop strings found across tokens.

A U+FFFD that a model writes in single bytes (byte-fallback tokenizers) cannot be told from a broken
character; such a text may come out with more of them than decoding it whole would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

_LONG_HELD = 8  # tokens; an unfinished character of UTF-8 has at most 3
_MAX_HELD = 32
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class TokenDecoder(Protocol):
    """What the detokenizer needs of a tokenizer."""

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of tokens; bytes that are no UTF-8 become U+FFFD."""
        ...


class Detokenizer:
    """Text of one completion, piece by piece.

    All pieces together are `tokenizer.decode` of all tokens, cut before the stop string whose
    end comes first. Text is held back while it may still change: an unfinished character, or
    the beginning of a stop string. A step decodes the last few tokens only.

    One exception: of byte-fallback tokens that are no UTF-8, `tokenizers` makes one U+FFFD for
    each byte, even for whole characters just before them. Characters once given out stay.

    Args:
        tokenizer: Decodes tokens.
        stop: Texts at which the completion ends; not given out.
        before: Last tokens of the prompt, where the completion continues its text: then a
            first token with a leading space keeps it.

    Attributes:
        stopped: Whether a stop string was found. Then nothing more is given out.
    """

    __slots__ = (
        "_buffer",
        "_context",
        "_context_text",
        "_pending",
        "_stop",
        "_tokenizer",
        "stopped",
    )

    def __init__(
        self,
        tokenizer: TokenDecoder,
        stop: Sequence[str] = (),
        *,
        before: Sequence[int] = (),
    ) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._context = list(before)  # given out already; decoded again for what they change
        self._context_text = tokenizer.decode(self._context) if self._context else ""
        self._pending: list[int] = []
        self._buffer = ""  # may begin a stop string
        self.stopped = False

    def push(self, token_ids: Sequence[int]) -> str:
        """Take the next tokens; returns what can be shown now."""
        shown = ""
        for token in token_ids:  # one by one: of byte-fallback tokens, whole characters at once
            self._pending.append(token)
            shown += self._until_stop(self._take())
        return shown

    def finish(self) -> str:
        """No tokens follow: what was held back, with U+FFFD for an unfinished character."""
        text = self._tokenizer.decode(self._context + self._pending)
        shown = self._until_stop(self._advance(text, len(self._pending)))
        shown, self._buffer = shown + self._buffer, ""
        return shown

    def _take(self) -> str:
        """The text of the pending tokens, unless it ends inside a character."""
        text = self._tokenizer.decode(self._context + self._pending)
        if not text.endswith(_REPLACEMENT):
            return self._advance(text, len(self._pending))
        if len(self._pending) <= _LONG_HELD:
            return ""
        return self._take_broken(text)

    def _take_broken(self, text: str) -> str:
        """Of tokens that are no UTF-8 for long: those before a place where no character is cut.

        There the two sides decode to the same text alone as together.
        """
        for count in range(len(self._pending) - 1, 0, -1):
            rest = self._tokenizer.decode(self._pending[count:])
            first = self._tokenizer.decode(self._context + self._pending[:count])
            if rest and first + rest == text:
                return self._advance(first, count)
        if len(self._pending) <= _MAX_HELD:
            return ""
        return self._advance(text, len(self._pending))

    def _advance(self, text: str, count: int) -> str:
        """Give out the first `count` pending tokens; `text` is theirs behind the context."""
        taken = self._pending[:count]
        if text.startswith(self._context_text):
            fresh = text[len(self._context_text) :]
        else:
            fresh = self._tokenizer.decode(taken)
        if fresh:
            self._context, self._pending = taken, self._pending[count:]
            self._context_text = self._tokenizer.decode(taken)
        else:  # special tokens, or a leading space that the decoder drops
            del self._pending[_MAX_HELD:]
        return fresh

    def _until_stop(self, text: str) -> str:
        """What of the text so far can be shown: up to a stop string or what may begin one."""
        if not self._stop:
            return text
        if self.stopped:
            return ""
        text = self._buffer + text
        found = [(at + len(s), at) for s in self._stop if (at := text.find(s)) >= 0]
        if found:
            self.stopped, self._buffer = True, ""
            return text[: min(found)[1]]
        held = max(_overlap(text, s) for s in self._stop)
        self._buffer = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((n for n in lengths if text.endswith(stop[:n])), 0)
