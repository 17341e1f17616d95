"""Sentences or paragraphs by a small trained network, also where punctuation and case were lost.

The rules' sentences are one of the network's features. Where there is punctuation around, the
rules decide unless the network is surer than the model's threshold; elsewhere the network does.

Source: Frohmann et al., Segment any Text (arXiv 2406.16678); Minixhofer et al., Where's the Point?
    (arXiv 2305.18893): trained on line breaks, with punctuation as a second task; corrupted copies;
    limited look-ahead; a head and thresholds fitted on some labelled examples.
Differs: two million hashed n-gram parameters and dilated layers in place of a transformer, in
    numpy: no torch needed. Rules as a feature. Silver sentences by rules besides line breaks.
Exact when: never promised; F1 by language in the model's card.
Cost: see `network.py`; one pass over a text, in windows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.rag.sentences.base import segmenters
from chunkwise.rag.sentences.decoding import Limits, sentences
from chunkwise.rag.sentences.guess import guess_language
from chunkwise.rag.sentences.heads import AROUND_BEFORE, AROUND_BEHIND
from chunkwise.rag.sentences.model import BoundaryModel, Reading, read_model
from chunkwise.rag.sentences.network import NEWLINE
from chunkwise.rag.sentences.tokens import MAX_TOKEN_CHARS, REACH_CHARS, Ints, Tokens
from chunkwise.types import BoundaryOdds, Span

__all__ = ["LearnedSegmenter"]

Unit = Literal["sentence", "paragraph"]

_READ: Final = 65_536  # characters that are looked at together
_WINDOW: Final = 32_768  # characters of which the language is guessed anew
_SAMPLE: Final = 2_048  # characters that the guess reads
_RULES_REACH: Final = 4_096  # the rules read no further ahead


class _Rules(Protocol):
    fingerprint: str

    def stream(
        self, pieces: Iterable[str], language: str | None = None
    ) -> Iterator[tuple[Span, str]]: ...


@dataclass(frozen=True)
class LearnedSegmenter:
    """Splits text into sentences or paragraphs with a trained model.

    Args:
        folder: The model's folder, made by `chunkwise train segmenter`.
        unit: `sentence` or `paragraph`.
        min_chars: Shorter ones are joined with a neighbour where that keeps `max_chars`.
        max_chars: Longest one, at least 64; a longer one is cut where it is likeliest.
        threshold: Probability, over the one the model was fitted to, that an end needs: 0.5 as
            fitted, higher for fewer ends.
    """

    folder: str
    unit: Unit = "sentence"
    min_chars: int = 1
    max_chars: int = 2_000
    threshold: float = 0.5
    fingerprint: str = field(init=False)
    _limits: Limits = field(init=False, repr=False, compare=False)
    _model: BoundaryModel = field(init=False, repr=False, compare=False)
    _rules: _Rules = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.unit not in ("sentence", "paragraph"):
            raise ConfigError(f"`unit` must be sentence or paragraph, got {self.unit!r}.")
        if not 0 < self.threshold < 1:
            raise ConfigError(f"`threshold` must be in (0, 1), got {self.threshold!r}.")
        limits = Limits(self.min_chars, self.max_chars)
        model = read_model(Path(self.folder))
        rules = cast(_Rules, segmenters.build("rules"))
        parts = (model.fingerprint, rules.fingerprint, self.unit, self.min_chars, self.max_chars)
        name = "-".join(str(part) for part in ("learned", *parts, self.threshold))
        for key, value in {
            "fingerprint": name,
            "_limits": limits,
            "_model": model,
            "_rules": rules,
        }.items():
            object.__setattr__(self, key, value)

    @property
    def look_ahead_chars(self) -> int:
        """What is further ahead than this, runs of blanks counted as one, changes no end."""
        tokens = _tokens_ahead(self._model)
        reach = _RULES_REACH + tokens * (MAX_TOKEN_CHARS + 1)
        return reach + self._limits.look_ahead_chars

    def split(self, text: str, language: str | None = None) -> list[Span]:
        """See `chunkwise.types.Segmenter`."""
        pieces = (text[at : at + _READ] for at in range(0, len(text), _READ))
        return [span for span, _ in self.stream(pieces, language)]

    def stream(
        self, pieces: Iterable[str], language: str | None = None
    ) -> Iterator[tuple[Span, str]]:
        """Sentences of a text that comes in pieces: the spans of `split`, with their text.

        Args:
            pieces: The text, cut anywhere.
            language: As in `split`.
        """
        scanner = self._scanner(language)
        for span, _ in self._rules.stream(scanner.fed(pieces), language):
            scanner.ruled.append(span.end)
            if span.end - scanner.settled >= _READ:
                yield from scanner.scan(span.end)
        yield from scanner.scan(None)

    def log_odds(self, text: str, language: str | None = None) -> BoundaryOdds:
        """See `chunkwise.types.BoundaryScorer`; of the ends of its unit, lengths left aside."""
        scanner = self._scanner(language)
        pieces = (text[at : at + _READ] for at in range(0, len(text), _READ))
        parts = []
        for span, _ in self._rules.stream(scanner.fed(pieces), language):
            scanner.ruled.append(span.end)
            if span.end - scanner.settled >= _READ:
                parts.append(scanner.odds(span.end))
        parts.append(scanner.odds(None))
        starts, ends, values = (np.concatenate(each) for each in zip(*parts, strict=True))
        return BoundaryOdds(starts, ends, values)

    def _scanner(self, language: str | None) -> _Scanner:
        return _Scanner(self._model, self._limits, self._bias, self.unit, language)

    @property
    def _bias(self) -> float:
        return float(np.log(self.threshold) - np.log1p(-self.threshold))


class _Scanner:
    """Walks over a text with a window that moves on. All state between two calls.

    Attributes:
        ruled: Ends of the rules' sentences so far, in the whole text.
        settled: Offset up to which all ends of the rules were known at the last scan.
    """

    def __init__(
        self, model: BoundaryModel, limits: Limits, bias: float, unit: Unit, language: str | None
    ) -> None:
        self.ruled: list[int] = []
        self.settled = 0
        self._model, self._limits, self._bias, self._unit = model, limits, bias, unit
        self._fixed = language
        self._guessed: dict[int, str] = {}
        self._base, self._text = 0, ""
        self._waiting: list[str] = []
        self._sentence = 0  # offset where the open sentence begins
        self._keep = model.network.shape.look_back + AROUND_BEFORE + REACH_CHARS

    def fed(self, pieces: Iterable[str]) -> Iterator[str]:
        """The pieces, each noted before it is handed on."""
        for piece in pieces:
            self._waiting.append(piece)
            yield piece

    def scan(self, settled: int | None) -> Iterator[tuple[Span, str]]:
        """Sentences that are decided.

        Args:
            settled: Offset up to which all ends of the rules are known; None: the text has ended.
        """
        base = self._base
        tokens, odds = self._read(settled)
        first = self._first(tokens)
        for start, stop in sentences(odds, self._limits, first, is_last=settled is None):
            low, high = int(tokens.starts[start]), int(tokens.ends[stop - 1])
            first = stop
            yield Span(base + low, base + high), self._text[low:high]
        if settled is not None:
            self._move(tokens, first, len(odds.values), settled)

    def odds(self, settled: int | None) -> BoundaryOdds:
        """Log-odds that are known by now and were not before; `settled` as of `scan`."""
        base = self._base
        tokens, odds = self._read(settled)
        first, known = self._first(tokens), len(odds.values)
        if settled is not None:
            self._move(tokens, known, known, settled)
        return BoundaryOdds(
            odds.starts[first:] + base, odds.ends[first:] + base, odds.values[first:]
        )

    def _read(self, settled: int | None) -> tuple[Tokens, BoundaryOdds]:
        """The window's tokens, and the log-odds of the first ones, which are known."""
        self._text = "".join([self._text, *self._waiting])
        self._waiting = []
        reading = self._model.read(self._text, np.array(self.ruled, np.int64) - self._base)
        tokens = reading.tokens
        known = self._num_known(tokens, settled)
        values = self._values(reading, known)
        return tokens, BoundaryOdds(tokens.starts[:known], tokens.ends[:known], values)

    def _first(self, tokens: Tokens) -> int:
        """The token that the open sentence begins with."""
        return int(np.searchsorted(tokens.starts, self._sentence - self._base))

    def _num_known(self, tokens: Tokens, settled: int | None) -> int:
        """Tokens whose scores no further text can change."""
        n = len(tokens.ends)
        if settled is None:
            return n
        sure = int(np.searchsorted(tokens.ends, settled - self._base, side="right"))
        return max(0, min(sure, n) - _tokens_ahead(self._model))

    def _values(self, reading: Reading, known: int) -> NDArray[np.float64]:
        """Log-odds of an end behind each of the first tokens."""
        outputs, cells = reading.outputs[:known], reading.cells[:known]
        if self._unit == "paragraph":
            values = outputs[:, NEWLINE] + self._model.paragraph_offset
        else:
            values = self._by_language(
                reading.tokens.starts[:known],
                lambda code, part: self._model.head(code).log_odds(outputs[part], cells[part]),
            )
        values = values.astype(np.float64) - self._bias
        values[reading.tokens.is_cut[:known]] = -np.inf
        return values

    def _by_language(
        self, starts: Ints, score: Callable[[str, slice], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """Scores of all tokens; `score` is called with each language and its run of tokens."""
        if self._fixed is not None:
            return score(self._fixed, slice(0, len(starts)))
        windows = (starts + self._base) // _WINDOW
        edges = [0, *(np.flatnonzero(np.diff(windows)) + 1).tolist(), len(starts)]
        parts = [
            score(self._guess(int(windows[low])), slice(low, high))
            for low, high in itertools.pairwise(edges)
            if low < high
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _guess(self, window: int) -> str:
        """The language of a window, guessed from its beginning: in sight the first time."""
        if window not in self._guessed:
            at = window * _WINDOW - self._base
            sample = self._text[at : at + _SAMPLE]
            self._guessed[window] = guess_language(sample, self._guessed.get(window - 1, ""))
        return self._guessed[window]

    def _move(self, tokens: Tokens, first: int, known: int, settled: int) -> None:
        """Drop what is needed no longer: all but the open sentence and what scores look back at."""
        self.settled = settled
        n = len(tokens.starts)
        self._sentence = self._base + int(tokens.starts[first] if first < n else len(self._text))
        kept = max(0, min(first, known) - self._keep)
        drop = int(tokens.starts[kept]) if n else 0
        self._base += drop
        self._text = self._text[drop:]
        self.ruled = [end for end in self.ruled if end > self._base]


def _tokens_ahead(model: BoundaryModel) -> int:
    """Tokens behind one that its score depends on, those that features read included."""
    return max(model.network.shape.look_ahead, AROUND_BEHIND) + REACH_CHARS
