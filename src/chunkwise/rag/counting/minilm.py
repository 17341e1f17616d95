"""Counts tokens as all-MiniLM-L6-v2 does (BERT uncased WordPiece), without its tokenizer.

Equal to `tokenizers` with that model's `tokenizer.json` and `encode_special_tokens` set, in
counts and in start offsets, for every text without lone surrogates (which it cannot take).

The text is classified by table look-up in one NumPy pass; words go through a cache from word
to piece offsets, so that Python runs only for words that are seen for the first time.
"""

from __future__ import annotations

import itertools
from array import array
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from chunkwise.rag.counting.bert import (
    DELETED,
    SINGLE,
    SPACE,
    WORD,
    Characters,
    characters,
    vocabulary,
)

__all__ = ["MiniLMCounter"]

_MAX_WORD = 100  # a longer word is one [UNK]
_MAX_PIECE = 18
_MAX_CACHED = 1 << 17
_MAX_KEY = 64  # longer words hardly come twice
_BLOCK = 1 << 17  # characters worked on at once: the arrays stay in the processor's cache

_FIRST = 0x8000_0000  # set on the first piece of each word
_NO_PIECE = 0xFFFF_FFFF  # stands for a word all of whose characters are dropped
_WHOLE = array("I", [_FIRST]).tobytes()


@dataclass(frozen=True)
class MiniLMCounter:
    """Token counts of all-MiniLM-L6-v2 and every other BERT uncased model."""

    fingerprint: ClassVar[str] = "minilm-1"
    is_additive: ClassVar[bool] = True
    _cache: _Words = field(default_factory=lambda: _Words(), init=False, repr=False, compare=False)

    def starts(self, text: str) -> NDArray[np.int32]:
        """Character offset at which each token starts; see `TokenCounter`."""
        blocks = [self._starts(text[a:b]) + np.int32(a) for a, b in _blocks(text)]
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def count(self, text: str) -> int:
        """Number of tokens of `text`."""
        if not text.isascii():
            return len(self.starts(text))
        codes = text.encode()
        key = codes.translate(self._cache.ascii)
        if b"\0" in key:
            return len(self.starts(text))
        singles = len(codes) - len(codes.translate(None, self._cache.ascii_singles))
        pieces = b"".join(map(self._cache.__getitem__, key.decode().split()))
        return len(pieces) // 4 + singles

    def _starts(self, text: str) -> NDArray[np.int32]:
        kinds, key = self._classify(text)
        joined = b"".join(map(self._cache.__getitem__, key.split()))
        pieces = np.frombuffer(joined, dtype=np.uint32)
        is_word = kinds == WORD
        is_word[1:] &= kinds[:-1] != WORD
        words = np.flatnonzero(is_word)
        at = words[np.cumsum(pieces >> 31, dtype=np.int32) - 1] + (pieces & np.uint32(_FIRST - 1))
        if DELETED in key or not key.isascii():
            at = at[pieces != _NO_PIECE]
        singles = np.flatnonzero(kinds == SINGLE)
        found = np.concatenate((at.astype(np.int32), singles.astype(np.int32)))
        found.sort(kind="stable")  # two sorted runs: a merge
        return found

    def _classify(self, text: str) -> tuple[NDArray[np.uint8], str]:
        """Class of each character, and the text with its words normalised, all else blank."""
        chars = self._cache.chars
        if text.isascii():
            codes = text.encode()
            kinds = chars.kinds[:128][np.frombuffer(codes, dtype=np.uint8)]
            return kinds, codes.translate(self._cache.ascii).decode()
        wide = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        if int(wide.max()) < 1 << 16:
            plain = chars.plain[wide]
            kinds = chars.kinds[wide]
        else:
            low = np.minimum(wide, np.uint32(0xFFFF))
            is_high = wide > 0xFFFF
            plain = np.where(is_high, wide, chars.plain[low])
            kinds = np.where(is_high, np.uint8(WORD), chars.kinds[low])
        return kinds, plain.tobytes().decode("utf-32-le", "surrogatepass")


class _Words(dict[str, bytes]):
    """Word key -> offsets of its pieces as uint32, the first one marked; filled on demand."""

    def __init__(self) -> None:
        self.chars: Characters = characters()
        self.first, self.rest = vocabulary()
        plain = self.chars.plain[:128].astype(np.uint8)
        self.ascii = bytes(plain.tobytes()) + bytes(128)
        kinds = self.chars.kinds[:128]
        self.ascii_singles = bytes(np.flatnonzero(kinds == SINGLE).astype(np.uint8))
        super().__init__(dict.fromkeys(self.first, _WHOLE))

    def __missing__(self, word: str) -> bytes:
        offsets = self._pieces(word) or [_NO_PIECE]
        offsets[0] |= _FIRST
        packed = array("I", offsets).tobytes()
        if len(word) <= _MAX_KEY:
            if len(self) >= _MAX_CACHED:
                self.clear()
            self[word] = packed
        return packed

    def _pieces(self, word: str) -> list[int]:
        if word.isascii() and DELETED not in word:
            return self._greedy(word)
        found: list[int] = []
        letters: list[str] = []
        places: list[int] = []
        for place, char in enumerate(word):
            kind, normal = WORD, char
            if char == DELETED or self.chars.is_rare(char):
                kind, normal = (WORD, "") if char == DELETED else self.chars.normal(char)
            if kind == WORD:
                letters += normal
                places += [place] * len(normal)
                continue
            found += [places[i] for i in self._greedy("".join(letters))]
            found += [place] if kind != SPACE else []
            letters, places = [], []
        return found + [places[i] for i in self._greedy("".join(letters))]

    def _greedy(self, word: str) -> list[int]:
        """Offsets of the longest pieces from the left; `[0]` for an unknown word."""
        if len(word) > _MAX_WORD:
            return [0]
        offsets: list[int] = []
        at, pieces = 0, self.first
        while at < len(word):
            end = min(len(word), at + _MAX_PIECE)
            while end > at and word[at:end] not in pieces:
                end -= 1
            if end == at:
                return [0]
            offsets.append(at)
            at, pieces = end, self.rest
        return offsets


def _blocks(text: str) -> list[tuple[int, int]]:
    """Ranges of some `_BLOCK` characters that start after a blank; they tile the text."""
    edges = [0]
    while len(text) - edges[-1] > _BLOCK:
        cut = text.find(" ", edges[-1] + _BLOCK) + 1 or len(text)
        edges.append(cut)
    if edges[-1] < len(text) or len(edges) == 1:
        edges.append(len(text))
    return list(itertools.pairwise(edges))
