"""Key phrases of a chunk: what it says often and the rest of its document seldom.

Source: candidates as in RAKE (Rose et al., 2010): runs of words between stop words and punctuation;
    weights are TF-IDF with the document's chunks as the collection (Sparck Jones, 1972).
Differs: inverse document frequency is rounded to whole bits, so that an edit changes few phrases of
    other chunks. Scripts without blanks have pairs of characters for words. A phrase half of
    whose words were in better ones is left out.
Exact when: `max_tokens` is 0: texts are embedded alone.
Cost: linear in characters, no model.
Helps or hurts: with all-MiniLM-L6-v2, recursive chunks, 231 questions on three corpora of Chroma's
    evaluation: recall of the best 5 +1.1 points [-1.7, +3.9] at 200 tokens and -1.4 [-4.7, +1.8] at
    100 against texts alone, recall at 400 tokens +0.5 [-3.3, +4.3] and -1.8 [-5.2, +1.4] (95 %
    paired bootstrap): no gain proven.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from chunkwise.rag._stopwords import STOPWORDS
from chunkwise.rag.enrichment.base import check_least, fitted
from chunkwise.types import Chunk, Document, TokenCounter

__all__ = ["KeywordsEnricher"]

_PAIRED = "\u0e01-\u0e5b\u0e81-\u0edf\u1000-\u109f\u1780-\u17f9\u3041-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_PAIRED}]+|[^\W_{_PAIRED}](?:[^\W_{_PAIRED}]|[-'’.](?=[^\W_{_PAIRED}]))*")
_PAIRED_RUN = re.compile(rf"[{_PAIRED}]+\Z")
_BESIDE = re.compile(r"[^\S\n]+|[^\S\n]*\n[^\S\n]*")
_MOST_CHARS = 40  # of a word
_LONGEST = 3  # words of a phrase


class _Run(NamedTuple):
    """Words that stand together.

    Attributes:
        names: The words, in small letters.
        starts: First character of each.
        ends: One past the last character of each.
        longest: Most of them that make a phrase.
    """

    names: list[str]
    starts: list[int]
    ends: list[int]
    longest: int


@dataclass(frozen=True, kw_only=True)
class KeywordsEnricher:
    """The phrases with the highest TF-IDF against the document, as the chunk spells them first.

    Attributes:
        counter: Counts the tokens.
        max_tokens: Most tokens of all phrases together.
        most: Most phrases.
    """

    counter: TokenCounter
    max_tokens: int = 32
    most: int = 6
    separator: ClassVar[str] = ", "

    def __post_init__(self) -> None:
        check_least("max_tokens", self.max_tokens, 0)
        check_least("most", self.most, 1)

    def enrich(
        self, document: Document, chunks: Sequence[Chunk], rooms: Sequence[int]
    ) -> list[tuple[str, ...]]:
        """See `Enricher`."""
        frequency: Counter[str] = Counter()
        for chunk in chunks:
            frequency.update({name for run in _runs(chunk.text) for name in run.names})
        bits = {name: round(math.log2(1 + len(chunks) / n)) for name, n in frequency.items()}
        return [
            fitted(_best(chunk.text, bits, self.most), self, room)
            for chunk, room in zip(chunks, rooms, strict=True)
        ]


def _best(text: str, bits: Mapping[str, int], most: int) -> list[str]:
    """The best phrases of a text, each as it is spelt first."""
    first_at: dict[tuple[str, ...], tuple[int, int]] = {}
    counts: Counter[tuple[str, ...]] = Counter()
    for run in _runs(text):
        for length in range(1, run.longest + 1):
            shifted = (run.names[first:] for first in range(length))
            for first, names in enumerate(zip(*shifted, strict=False)):
                if names not in first_at:
                    first_at[names] = run.starts[first], run.ends[first + length - 1]
                counts[names] += 1
    weight = {
        names: count * sum(bits[name] for name in names) / math.sqrt(len(names))
        for names, count in counts.items()
    }
    kept: list[str] = []
    said: set[str] = set()
    for names in sorted(weight, key=lambda names: -weight[names]):  # of equals the first
        if len(kept) == most:
            break
        if 2 * len(said.intersection(names)) < len(names):
            start, end = first_at[names]
            kept.append(" ".join(text[start:end].split()))
            said.update(names)
    return kept


def _runs(text: str) -> Iterator[_Run]:
    """Words that stand together, without stop words, numbers and very long words between them."""
    run = _Run([], [], [], _LONGEST)
    for match in _WORD.finditer(text):
        start, end = match.span()
        if run.names and not _BESIDE.fullmatch(text, run.ends[-1], start):
            yield run
            run = _Run([], [], [], _LONGEST)
        name = match[0].lower()
        if _PAIRED_RUN.match(name):
            pairs = [text[at : at + 2] for at in range(start, end - 1)]
            yield _Run(pairs, [*range(start, end - 1)], [*range(start + 2, end + 1)], 1)
        elif end - start <= _MOST_CHARS and name not in STOPWORDS and not name.isnumeric():
            run.names.append(name)
            run.starts.append(start)
            run.ends.append(end)
        elif run.names:
            yield run
            run = _Run([], [], [], _LONGEST)
    if run.names:
        yield run
