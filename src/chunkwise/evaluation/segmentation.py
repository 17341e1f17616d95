"""How well a segmenter finds the sentences of texts whose sentences are known."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from chunkwise.evaluation.bootstrap import Floats, Interval, bootstrap
from chunkwise.evaluation.boundaries import BoundaryCounts, count_boundaries, measures
from chunkwise.evaluation.rows import Line, read_lines
from chunkwise.types import Segmenter

UNKNOWN: Final = "und"
"""Language code of texts that name none (ISO 639-2: undetermined)."""


@dataclass(frozen=True, slots=True)
class GoldText:
    """A text whose sentences are known.

    Attributes:
        text: The text.
        ends: Character offset one past the end of each sentence, in order.
        language: ISO 639-1 code, or empty; it is told to the segmenter.
    """

    text: str
    ends: tuple[int, ...]
    language: str = ""


@dataclass(frozen=True, slots=True)
class SegmentationSummary:
    """What a segmenter scored on some texts.

    Attributes:
        num_texts: How many.
        num_ends: Ends that were to be found.
        measures: `precision`, `recall`, `f1`, `pk`, `windowdiff` of all texts together, with 95 %
            intervals over texts; see `boundaries.measures`.
    """

    num_texts: int
    num_ends: int
    measures: Mapping[str, Interval]


def read_texts(path: str | os.PathLike[str]) -> list[GoldText]:
    """Texts of a file with one JSON object a line, gzipped or not.

    Keys: `text`; `spans`, the sentences as `[start, end]` of its characters, in order and not
    overlapping; and if wanted `lang`.

    Raises:
        DocumentError: The file cannot be read, or a line cannot be used; the message names it.
    """
    return [_gold_text(line) for line in read_lines(path)]


def corrupted(gold: GoldText) -> GoldText:
    """The text without punctuation and case, as of a speech recogniser, with its ends.

    Every character of a Unicode category P (punctuation: also apostrophes, hyphens, and the full
    stops of other scripts) is dropped, every other one is lower-cased by itself. A blank that
    would so come to stand behind another, or first in the text, is dropped too, unless it is a line
    break: a double blank would tell where punctuation was. All else stays, line breaks included.

    An end at offset `e` goes to the number of characters that `text[:e]` became. Ends that meet
    there, as of a sentence of punctuation only, are one.
    """
    kept: list[str] = []
    length, after_gap = 0, False
    moved = [0]
    for character in gold.text:
        if unicodedata.category(character).startswith("P"):
            after_gap = True
        elif not (after_gap and _is_extra(character, kept)):
            kept.append(character.lower())
            length += len(kept[-1])
            after_gap = False
        moved.append(length)
    ends = dict.fromkeys(moved[end] for end in gold.ends)
    return GoldText("".join(kept), tuple(ends), gold.language)


def evaluate_segmenter(texts: Iterable[GoldText], segmenter: Segmenter) -> Iterator[BoundaryCounts]:
    """Counts of each text, as it is done. The segmenter is told the language where it is known."""
    for gold in texts:
        found = segmenter.split(gold.text, gold.language or None)
        yield count_boundaries(gold.text, gold.ends, (end for _, end in found))


def summarise_segmentation(
    counts: Sequence[BoundaryCounts], *, resamples: int = 10_000, seed: int = 0
) -> SegmentationSummary:
    """Measures of all texts together. One text alone has no interval: its bounds are NaN."""
    columns = np.array(counts, dtype=np.float64)  # (num_texts, 6)

    def statistic(drawn: Floats) -> dict[str, Floats]:
        return measures(drawn @ columns)

    found = bootstrap(statistic, len(counts), resamples=resamples, seed=seed)
    return SegmentationSummary(len(counts), sum(each.gold for each in counts), found)


def counts_row(gold: GoldText, counts: BoundaryCounts) -> dict[str, Any]:
    """A text and what was counted in it, as a JSON row."""
    return {"text": gold.text, "lang": gold.language or UNKNOWN, **counts._asdict()}


def by_language(
    texts: Sequence[GoldText], counts: Sequence[BoundaryCounts]
) -> dict[str, list[BoundaryCounts]]:
    """The counts of each language, by its code."""
    found: dict[str, list[BoundaryCounts]] = {}
    for gold, count in zip(texts, counts, strict=True):
        found.setdefault(gold.language or UNKNOWN, []).append(count)
    return dict(sorted(found.items()))


def _is_extra(character: str, kept: Sequence[str]) -> bool:
    """Whether a blank would stand behind another, or first, and is no line break."""
    is_blank = character.isspace() and character not in "\r\n"
    return is_blank and (not kept or kept[-1].isspace())


def _gold_text(line: Line) -> GoldText:
    text = line.text("text")
    spans = line.values.get("spans")
    if not isinstance(spans, list):
        raise line.fails(
            "`spans` must be a list of [start, end], one a sentence; the line has: "
            f"{', '.join(line.values) or 'nothing'}."
        )
    done, ends = 0, []
    for span in spans:
        done = _end(line, span, done, len(text))
        ends.append(done)
    return GoldText(text, tuple(ends), line.text("lang", ""))


def _end(line: Line, span: Any, least: int, most: int) -> int:
    """The end of a sentence that starts at `least` or later and ends within the text."""
    is_pair = isinstance(span, list) and [type(each) for each in span] == [int, int]
    if not is_pair or not least <= span[0] < span[1] <= most:
        raise line.fails(
            f"`spans` holds {span!r}; a sentence is [start, end] with {least} <= start < end <= "
            f"{most}: in order, without overlap, inside the text."
        )
    return int(span[1])
