"""Windows of text to learn from: drawn by language, corrupted, tokenised, labelled.

Languages are drawn by a power of their size, so that small ones count. Sentences of documents
keep their order; those of collections come in a new order each time, as they do in the treebanks.
A window is a pure function of the seed, the step and its place in the step.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from chunkwise.rag.sentences.rules import RuleSegmenter
from chunkwise.rag.sentences.tokens import Ints, tokenize
from chunkwise.training.sentences.corruption import Corrupted, Labelled, corrupt, draw
from chunkwise.training.sentences.texts import Document

IGNORED: Final = -1.0
"""Label of a token that is not learnt from."""

_CHARS_PER_TOKEN, _DENSE_CHARS = 9, 1.6  # enough in nearly all windows; else one more is drawn
_DENSE = frozenset({"ja", "zh", "th"})
_SHUFFLED = 0.25  # windows of documents whose sentences are put in another order all the same
_HIDDEN = 0.15  # windows in which the rules' sentences are not told
_EDGE = 16  # last tokens of a window, whose look-ahead is cut off
_SHIFT = 40  # a window begins at one of so many tokens of its text
_GOLD = 4  # times as often as their size says treebanks are drawn


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Windows that are computed together.

    Attributes:
        ids: Rows of the table: `(num_windows, length, NUM_SLOTS)` int64.
        sentences: 1 where a sentence ends behind the token, 0 where not, or IGNORED.
        lines: The same of lines.
        marks: Index of the mark behind each token.
    """

    ids: Tensor
    sentences: Tensor
    lines: Tensor
    marks: Tensor

    @property
    def tokens(self) -> int:
        """See `Batch`."""
        return int(self.ids.shape[0] * self.ids.shape[1])

    @property
    def size(self) -> int:
        """See `Batch`."""
        return int(self.ids.shape[0])


class Window(NamedTuple):
    """One window as arrays; see `WindowBatch`."""

    ids: Ints
    sentences: Ints
    lines: Ints
    marks: Ints


class Windows:
    """Draws windows from documents.

    Args:
        documents: What to draw from.
        length: Tokens of a window.
        num_buckets: Rows of the table for n-grams.
        power: Languages are drawn by their number of characters to this power.
        seed: Of all draws.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        *,
        length: int,
        num_buckets: int,
        power: float,
        seed: int,
    ) -> None:
        self._length, self._num_buckets, self._seed = length, num_buckets, seed
        self._rules = RuleSegmenter()
        self._by_language: dict[str, list[Document]] = {}
        for document in documents:
            self._by_language.setdefault(document.language, []).append(document)
        self._languages = sorted(self._by_language)
        sizes = {name: [_size(d) for d in self._by_language[name]] for name in self._languages}
        self._odds = [sum(sizes[name]) ** power for name in self._languages]
        self._cumulative = {name: list(itertools.accumulate(sizes[name])) for name in sizes}

    def batch(self, step: int, num_windows: int) -> WindowBatch:
        """The windows of a step."""
        windows = [
            self.window(random.Random(f"{self._seed}/{step}/{i}")) for i in range(num_windows)
        ]
        return WindowBatch(
            torch.from_numpy(np.stack([window.ids for window in windows])),
            torch.from_numpy(np.stack([w.sentences for w in windows])).float(),
            torch.from_numpy(np.stack([w.lines for w in windows])).float(),
            torch.from_numpy(np.stack([window.marks for window in windows])),
        )

    def window(self, chance: random.Random) -> Window:
        """A window drawn by `chance`."""
        while True:
            (language,) = chance.choices(self._languages, self._odds)
            labelled, documents = self._text(language, chance)
            found = corrupt(labelled, draw(chance), chance)
            window = self._labelled(found, documents, chance)
            if window is not None:
                return window

    def _text(self, language: str, chance: random.Random) -> tuple[Labelled, list[Document]]:
        """Sentences of one or more documents, of characters enough for a window."""
        wanted = int(self._length * (_DENSE_CHARS if language in _DENSE else _CHARS_PER_TOKEN))
        parts: list[tuple[str, str]] = []
        total, used = 0, []
        while total < wanted:
            documents = self._by_language[language]
            (document,) = chance.choices(documents, cum_weights=self._cumulative[language])
            used.append(document)
            for sentence, gap in _run(document, wanted - total, chance):
                parts.append((sentence, gap))
                total += len(sentence) + len(gap) + 1
        return _joined(parts), used

    def _labelled(
        self, found: Corrupted, documents: Sequence[Document], chance: random.Random
    ) -> Window | None:
        """A stretch of the text as tokens with labels; None if it has too few."""
        language = documents[0].language
        is_hidden = chance.random() < _HIDDEN
        ruled = [] if is_hidden else [end for _, end in self._rules.split(found.text, language)]
        tokens = tokenize(found.text, np.array(ruled, np.int64), self._num_buckets)
        spare = len(tokens.ends) - self._length
        if spare < 0:
            return None
        low = chance.randint(0, min(spare, _SHIFT))
        part = slice(low, low + self._length)
        sentences = _labels(tokens.ends, found.ends)
        sentences[tokens.is_cut] = IGNORED
        if any(document.known == "lines" for document in documents):
            is_open = np.diff(tokens.starts, append=len(found.text)) > tokens.ends - tokens.starts
            sentences[is_open & (sentences == 0)] = IGNORED
        lines = _labels(tokens.ends, found.lines)
        if not all(document.has_lines for document in documents):
            lines[:] = IGNORED
        sentences, lines = sentences[part], lines[part]
        sentences[-_EDGE:] = IGNORED
        lines[-_EDGE:] = IGNORED
        marks = found.marks[tokens.ends[part] - 1]
        return Window(tokens.ids[part].astype(np.int64), sentences, lines, marks)


def _labels(ends: Ints, labelled: Ints) -> Ints:
    """1 for the token in which, or with which, something labelled ends; 0 for others."""
    found = np.zeros(len(ends), np.float64)
    found[np.minimum(np.searchsorted(ends, labelled), len(ends) - 1)] = 1
    return found  # type: ignore[return-value]


def _size(document: Document) -> int:
    """Characters of a document; those of treebanks count more."""
    return sum(map(len, document.sentences)) * (_GOLD if document.known == "gold" else 1)


def _run(document: Document, wanted: int, chance: random.Random) -> Iterator[tuple[str, str]]:
    """Sentences of a document with the gaps behind them, of about `wanted` characters."""
    n = len(document.sentences)
    is_shuffled = not document.is_ordered or chance.random() < _SHUFFLED
    start = chance.randrange(n) if n > 1 else 0
    total, place = 0, start
    while total < wanted and place < n:
        at = chance.randrange(n) if is_shuffled else place
        yield document.sentences[at], document.gaps[at]
        total += len(document.sentences[at]) + 1
        place += 0 if is_shuffled else 1


def _joined(parts: Sequence[tuple[str, str]]) -> Labelled:
    ends, lines = [], []
    pieces: list[str] = []
    at = 0
    for sentence, gap in parts:
        at += len(sentence)
        ends.append(at)
        if "\n" in gap or "\r" in gap:
            lines.append(at)
        at += len(gap)
        pieces += [sentence, gap]
    return Labelled("".join(pieces), np.array(ends, np.int64), np.array(lines, np.int64))
