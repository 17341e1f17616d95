"""A text as tokens with hashed features: what the learned segmenter reads. Only numpy.

A word is a token, and so is each mark and each character of the scripts that put no spaces
between words (Han, kana, Thai, Lao, Khmer, Burmese). A combining mark belongs to the character
before it, a run of more than 16 characters is cut. Features are character n-grams hashed into
one table, as in WtP (arXiv 2305.18893), which hashes single characters.

Cost: some 50 passes over the characters, about 10 million characters a second on one core.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

BLANK, WORD, SINGLE, MARK, OTHER = range(5)
"""Classes of characters: white space, part of a word, a token by itself, joins what is before."""

NUM_SLOTS: Final = 8
NUM_FIXED: Final = 256
"""Rows of the table that are no n-grams: kinds of tokens, and what stands behind a token."""

MAX_TOKEN_CHARS: Final = 16
REACH_CHARS: Final = 4
"""Features of a token read at most so many characters before and behind it, blanks aside."""

_KNOWN = 0x20000  # code points that are looked up; those above are Han or symbols
_HAN_END = 0x32000
_TERMINATORS = ".!?。．！？｡…؟۔।॥։።᙮‼⁇⁈⁉"
_PAUSES = ",;:،、，；：؛"
_SINGLE = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9D),
)
_SCRIPTS = ((0x3040, 0x309F), (0x30A0, 0x30FF), (0x0E00, 0x0E7F), (0x3400, 0x9FFF))
_LOWER, _UPPER, _DIGIT, _PUNCTUATION, _TERMINATOR, _PAUSE, _BREAK = (1 << i for i in range(7))
_CAPITAL, _UPPERS, _LETTER, _MIXED, _CASELESS, _DIGITS, _CODE = range(1, 8)
_FIRST_SCRIPT, _END_MARK, _PUNCT, _SYMBOL = 8, 13, 14, 15
_MIX = np.uint64(0x9E3779B97F4A7C15)
_BEFORE_GAPS = 128  # ids of kinds: 16 kinds times 8 lengths


class Tokens(NamedTuple):
    """Tokens of a text, in order; all that is not blank is in one.

    Attributes:
        starts: Offsets of their first characters: `(n,)`.
        ends: One past their last characters.
        ids: Rows of the table: `(n, NUM_SLOTS)` int32.
        is_cut: The next token goes on with the same word.
        is_single: A character of a script without spaces, half a word or less.
        is_capital: Begins with an upper case letter.
        is_mark: A full stop, comma, question mark or the like, of any script; no apostrophe.
    """

    starts: Ints
    ends: Ints
    ids: NDArray[np.int32]
    is_cut: Flags
    is_single: Flags
    is_capital: Flags
    is_mark: Flags


class Characters(NamedTuple):
    """What is known of the characters of a text.

    Attributes:
        codes: Code points: `(length,)`.
        classes: BLANK, WORD and so on.
        lower: Lower case, of those that have one of one character.
        traits: Bits: see the constants.
    """

    codes: Ints
    classes: NDArray[np.uint8]
    lower: Ints
    traits: NDArray[np.uint8]

    @property
    def is_punctuation(self) -> Flags:
        """Unicode category P."""
        found: Flags = (self.traits & _PUNCTUATION) != 0
        return found

    @property
    def is_break(self) -> Flags:
        """A line or paragraph break."""
        found: Flags = (self.traits & _BREAK) != 0
        return found


def characters(text: str) -> Characters:
    """Classes and traits of the characters of a text; lone surrogates are characters too."""
    raw = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    codes = raw.astype(np.int64)
    classes, lower, traits = _tables()
    known = np.minimum(codes, _KNOWN - 1)
    found, small = classes[known], lower[known].astype(np.int64)
    kinds = traits[known]
    if len(codes) and codes.max() >= _KNOWN:
        is_high = codes >= _KNOWN
        is_selector = (codes >= 0xE0000) & (codes < 0xE1000)
        found = np.where(is_high, np.where(codes < _HAN_END, SINGLE, OTHER), found)
        found = np.where(is_selector, MARK, found).astype(np.uint8)
        small, kinds = np.where(is_high, codes, small), np.where(is_high, 0, kinds)
    return Characters(codes, found, small, kinds.astype(np.uint8))


def tokenize(text: str, ruled: Ints, num_buckets: int) -> Tokens:
    """Tokens of a text.

    Args:
        text: The text.
        ruled: Offsets where sentences end by rules, which is a feature.
        num_buckets: Rows of the table that n-grams are hashed into.
    """
    chars = characters(text)
    is_start, goes_on = _token_starts(chars)
    starts = np.flatnonzero(is_start)
    if not len(starts):
        return _no_tokens()
    lengths = np.add.reduceat(chars.classes != BLANK, starts, dtype=np.int64)
    ends = starts + lengths
    owner = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(text)))
    shape = _Shape(starts, ends, lengths, owner, starts[0])
    is_cut = np.append(goes_on[starts[1:]], False)
    ids = np.empty((len(starts), NUM_SLOTS), dtype=np.int32)
    hashes = _hashes(chars, shape)
    for slot, values in enumerate(hashes):
        ids[:, slot] = NUM_FIXED + ((values * _MIX) >> np.uint64(33)) % np.uint64(num_buckets)
    ids[:, 6] = _kinds(chars, shape) * 8 + np.minimum(lengths, 8) - 1
    ids[:, 7] = _BEFORE_GAPS + 2 * _gaps(chars, shape) + np.isin(ends, ruled)
    is_single = chars.classes[starts] == SINGLE
    is_capital = (chars.traits[starts] & _UPPER) != 0
    is_mark = (chars.traits[starts] & (_TERMINATOR | _PAUSE)) != 0
    return Tokens(starts, ends, ids, is_cut, is_single, is_capital, is_mark)


class _Shape(NamedTuple):
    """Where tokens are.

    Attributes:
        owner: For each character from the first token on, the token it is in or behind.
        first: Start of the first token.
    """

    starts: Ints
    ends: Ints
    lengths: Ints
    owner: Ints
    first: int


def _token_starts(chars: Characters) -> tuple[Flags, Flags]:
    """Whether each character begins a token; whether it only does because a run was too long."""
    classes = chars.classes
    places = np.arange(len(classes))
    before = np.roll(classes, 1)
    before[:1] = BLANK
    base = np.maximum.accumulate(np.where(classes != MARK, places, -1)) if len(classes) else places
    effective = np.where(base >= 0, classes[base], BLANK)
    effective = np.roll(effective, 1)
    effective[:1] = BLANK
    is_joined = np.roll(chars.codes, 1) == 0x200D
    is_joined[:1] = False
    joins = (classes == MARK) & (before != BLANK)
    joins |= (classes == WORD) & (effective == WORD)
    joins |= is_joined & (before != BLANK)
    is_start = (classes != BLANK) & ~joins
    run = np.maximum.accumulate(np.where(is_start, places, 0)) if len(places) else places
    inside = places - run
    goes_on = (classes != BLANK) & (inside > 0) & (inside % MAX_TOKEN_CHARS == 0)
    goes_on &= run < places
    return is_start | goes_on, goes_on


def _hashes(chars: Characters, shape: _Shape) -> list[NDArray[np.uint64]]:
    """Six n-grams of each token: of words their parts, of single characters what is beside."""
    codes = np.where(chars.traits & _DIGIT, ord("0"), chars.lower).astype(np.uint64)
    mixed = (codes + np.uint64(1)) * _MIX
    mixed ^= mixed >> np.uint64(29)
    values = mixed[shape.first :]
    offsets = np.arange(shape.first, len(codes))
    forward = offsets - shape.starts[shape.owner]
    backward = shape.ends[shape.owner] - 1 - offsets
    values = np.where(backward >= 0, values, np.uint64(0))
    keys = _keys()
    ahead = values * keys[forward & 31]
    behind = values * keys[32 + (backward & 31)]
    at = shape.starts - shape.first
    whole = np.add.reduceat(ahead, at)
    words = [
        whole,
        whole * np.uint64(0xD6E8FEB86659FD93),
        np.add.reduceat(np.where(forward < 3, ahead, np.uint64(0)), at) + np.uint64(3),
        np.add.reduceat(np.where(backward < 3, behind, np.uint64(0)), at) + np.uint64(5),
        np.add.reduceat(np.where(backward < 2, behind, np.uint64(0)), at) + np.uint64(7),
        np.add.reduceat(np.where(forward < 5, ahead, np.uint64(0)), at) + np.uint64(11),
    ]
    is_single = chars.classes[shape.starts] == SINGLE
    if not is_single.any():
        return words
    beside = _beside(mixed, shape.starts, keys)
    return [np.where(is_single, own, word) for own, word in zip(beside, words, strict=True)]


def _beside(
    mixed: NDArray[np.uint64], starts: Ints, keys: NDArray[np.uint64]
) -> list[NDArray[np.uint64]]:
    """N-grams of characters around each start."""
    padded = np.concatenate([np.zeros(3, np.uint64), mixed, np.zeros(3, np.uint64)])
    near = [padded[starts + 3 + shift] * keys[40 + shift] for shift in range(-3, 3)]
    before3, before2, before1, here, after1, after2 = near
    return [
        here + np.uint64(13),
        here + after1 + np.uint64(17),
        before1 + here + np.uint64(19),
        before2 + before1 + here + np.uint64(23),
        here + after1 + after2 + np.uint64(29),
        before3 + before2 + before1 + here + np.uint64(31),
    ]


def _kinds(chars: Characters, shape: _Shape) -> Ints:
    """What kind of token each is, in [0, 16)."""
    traits, at = chars.traits[shape.first :], shape.starts - shape.first
    first = chars.traits[shape.starts]
    uppers, lowers, digits = (
        np.add.reduceat((traits & bit) != 0, at, dtype=np.int64) for bit in (_UPPER, _LOWER, _DIGIT)
    )
    is_capital = (first & _UPPER) != 0
    is_long = shape.lengths > 1
    kinds = np.select(
        [
            (uppers == 0) & (lowers > 0) & (digits == 0),
            (digits > 0) & (uppers + lowers > 0),
            digits > 0,
            uppers + lowers == 0,
            is_capital & ~is_long,
            is_capital & (uppers == 1),
            lowers == 0,
        ],
        [0, _CODE, _DIGITS, _CASELESS, _LETTER, _CAPITAL, _UPPERS],
        _MIXED,
    )
    classes, codes = chars.classes[shape.starts], chars.codes[shape.starts]
    marks = np.where((first & _PUNCTUATION) != 0, _PUNCT, _SYMBOL)
    marks = np.where((first & _TERMINATOR) != 0, _END_MARK, marks)
    kinds = np.where(classes == OTHER, marks, kinds)
    scripts = np.select(
        [(codes >= low) & (codes <= high) for low, high in _SCRIPTS],
        list(range(_FIRST_SCRIPT, _FIRST_SCRIPT + len(_SCRIPTS))),
        _FIRST_SCRIPT + len(_SCRIPTS),
    )
    return np.where(classes == SINGLE, scripts, kinds)


def _gaps(chars: Characters, shape: _Shape) -> Ints:
    """What is behind each token: 0 the next one, 1 blanks, 2 a line break, 3 a blank line."""
    at = shape.starts - shape.first
    blanks = np.add.reduceat(chars.classes[shape.first :] == BLANK, at, dtype=np.int64)
    is_break = chars.is_break[shape.first :].copy()
    codes = chars.codes[shape.first :]
    is_break[1:] &= ~((codes[1:] == 10) & (codes[:-1] == 13))
    breaks = np.add.reduceat(is_break, at, dtype=np.int64)
    return np.where(breaks > 0, np.minimum(breaks, 2) + 1, np.minimum(blanks, 1))


def _no_tokens() -> Tokens:
    empty, flags = np.zeros(0, np.int64), np.zeros(0, np.bool_)
    return Tokens(empty, empty, np.zeros((0, NUM_SLOTS), np.int32), flags, flags, flags, flags)


@functools.cache
def _keys() -> NDArray[np.uint64]:
    """Odd factors, so that the place of a character counts."""
    chance = np.random.Generator(np.random.PCG64(20_406))
    return chance.integers(0, 1 << 63, size=64, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


@functools.cache
def _tables() -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.uint8]]:
    """Class, lower case and traits of each code point below `_KNOWN`; some 80 ms once."""
    classes = np.empty(_KNOWN, np.uint8)
    lower = np.arange(_KNOWN, dtype=np.int32)
    traits = np.zeros(_KNOWN, np.uint8)
    for code in range(_KNOWN):
        character = chr(code)
        category = unicodedata.category(character)
        classes[code] = _class(character, category)
        small = character.lower()
        if small != character and len(small) == 1:
            lower[code] = ord(small)
        traits[code] = _traits(character, category)
    for first, last in _SINGLE:
        part = classes[first : last + 1]
        part[part == WORD] = SINGLE
    return classes, lower, traits


def _class(character: str, category: str) -> int:
    if character.isspace():
        return BLANK
    if category[0] == "M" or category == "Cf":
        return MARK
    return WORD if category[0] in "LN" else OTHER


def _traits(character: str, category: str) -> int:
    found = 0
    if category in ("Ll", "Lu", "Lt"):
        found |= _LOWER if category == "Ll" else _UPPER
    if category == "Nd":
        found |= _DIGIT
    if category[0] == "P":
        found |= _PUNCTUATION
    if character in _TERMINATORS:
        found |= _TERMINATOR
    if character in _PAUSES:
        found |= _PAUSE
    if character in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029":
        found |= _BREAK
    return found
