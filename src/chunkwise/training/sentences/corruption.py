"""Texts as they come in practice: without case, punctuation or line breaks, or wrapped; labelled.

Source: the corruptions of SaT (arXiv 2406.16678, section 3) and WtP (arXiv 2305.18893).
Differs: characters are dropped, labels move with them; the evaluation's own corruption (all of
    category P, lower case) is one of the kinds.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkwise.rag.sentences.network import MARKS
from chunkwise.rag.sentences.tokens import BLANK, Characters, Flags, Ints, characters

Breaks = Literal["keep", "space", "wrap"]

_MARKS_OF: Final = (
    ("comma", ",،、，"),
    ("period", ".。．｡…।॥۔։።"),
    ("question", "?？؟"),
    ("exclamation", "!！"),
    ("colon", ":："),
    ("semicolon", ";；؛"),
)
_COLUMNS = (40, 100)


@dataclass(frozen=True, slots=True)
class Corruption:
    """What is done to a text.

    Attributes:
        removed: Share of the punctuation marks that are dropped.
        is_lowered: All is lower case.
        breaks: Line breaks stay, are spaces, or other spaces are line breaks.
    """

    removed: float = 0.0
    is_lowered: bool = False
    breaks: Breaks = "keep"


class Labelled(NamedTuple):
    """A text and the ends of its sentences and lines, as offsets one past their last characters."""

    text: str
    ends: Ints
    lines: Ints


class Corrupted(NamedTuple):
    """What became of a text.

    Attributes:
        text: The text.
        ends: Where its sentences end.
        lines: Where its lines ended.
        marks: For each character the mark that stood behind it, as an index of `MARKS`.
    """

    text: str
    ends: Ints
    lines: Ints
    marks: NDArray[np.int64]


CLEAN: Final = Corruption()
STRIPPED: Final = Corruption(removed=1.0, is_lowered=True)


def draw(chance: random.Random) -> Corruption:
    """A corruption: more than half are stripped of all, one in five is clean, the rest between."""
    breaks: Breaks = chance.choices(("keep", "space", "wrap"), (5, 4, 1))[0]
    kind = chance.random()
    if kind < 0.2:
        return Corruption(breaks=breaks)
    if kind < 0.75:
        return Corruption(1.0, True, breaks)
    if kind < 0.8:
        return Corruption(0.0, True, breaks)
    if kind < 0.9:
        return Corruption(1.0, False, breaks)
    return Corruption(chance.uniform(0.2, 0.95), chance.random() < 0.5, breaks)


def corrupt(labelled: Labelled, how: Corruption, chance: random.Random) -> Corrupted:
    """The text and its labels after a corruption."""
    chars = characters(labelled.text)
    codes = (chars.lower if how.is_lowered else chars.codes).copy()
    if how.breaks != "keep":
        codes[chars.is_break] = ord(" ")
    if how.breaks == "wrap":
        _wrap(codes, chance.randint(*_COLUMNS))
    is_kept = _kept(chars, codes, how.removed, chance)
    places = np.flatnonzero(is_kept)
    text = codes[places].astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    is_solid = is_kept & (chars.classes != BLANK)
    ends = _moved(labelled.ends, is_solid, places)
    lines = _moved(labelled.lines, is_solid, places)
    return Corrupted(text, ends, lines, _marks_behind(chars)[places])


def _kept(chars: Characters, codes: Ints, removed: float, chance: random.Random) -> Flags:
    """Which characters stay; a blank that would stand behind another where a mark was does not."""
    is_dropped = chars.is_punctuation.copy()
    if removed < 1:
        generator = np.random.Generator(np.random.PCG64(chance.getrandbits(32)))
        is_dropped &= generator.random(len(codes)) < removed
    is_kept = ~is_dropped
    places = np.flatnonzero(is_kept)
    is_blank = (chars.classes[places] == BLANK) & (codes[places] != ord("\n"))
    after_gap = np.diff(places, prepend=-1) > 1
    after_blank = np.concatenate([[True], (chars.classes[places] == BLANK)[:-1]])[: len(places)]
    is_kept[places[is_blank & after_gap & after_blank]] = False
    return is_kept


def _moved(offsets: Ints, is_solid: Flags, places: Ints) -> Ints:
    """Where the last character before each offset that stayed and is not blank now ends."""
    last = np.maximum.accumulate(np.where(is_solid, np.arange(len(is_solid)), -1))
    found = last[offsets - 1] if len(offsets) else offsets
    return np.unique(np.searchsorted(places, found[found >= 0]) + 1)


def _marks_behind(chars: Characters) -> NDArray[np.int64]:
    """The first mark behind each character that is no mark, as an index of `MARKS`."""
    is_mark = chars.is_punctuation
    kinds = np.where(is_mark, len(MARKS) - 1, 0)
    for name, marks in _MARKS_OF:
        kinds[np.isin(chars.codes, [ord(mark) for mark in marks])] = MARKS.index(name)
    behind = np.zeros_like(kinds)
    behind[:-1] = np.where(is_mark[:-1], 0, kinds[1:])
    return behind


def _wrap(codes: Ints, columns: int) -> None:
    """Turn spaces into line breaks, as an editor would to keep lines short."""
    line = 0
    spaces = np.flatnonzero(codes == ord(" "))
    for place, after in itertools.pairwise([*spaces.tolist(), len(codes)]):
        if after - line > columns:
            codes[place] = ord("\n")
            line = place + 1
