"""Characters and vocabulary of the BERT uncased tokenizer, read from the package's data."""

from __future__ import annotations

import bisect
import functools
import gzip
import json
import unicodedata
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

SPACE, WORD, SINGLE = 0, 1, 2
"""Classes of characters: between words, in a word, a token of its own (punctuation, CJK)."""

DELETED = "\0"
"""Stands for every character that the tokenizer drops (control characters, accents)."""

_PLANE = 1 << 16


@dataclass(frozen=True)
class Characters:
    """What the tokenizer's normaliser and pre-tokenizer do with each character.

    Attributes:
        kinds: Class of each code point below 65,536: `(65536,)` uint8.
        plain: What each becomes in a word key, as a code point: `(65536,)` uint32. A space for
            all that is no part of a word, `DELETED` for the dropped ones, itself for those in
            `rare`.
        rare: Characters below 65,536 that become more than one.
        mapped: Normal form of each character that has another one, Hangul excepted.
    """

    kinds: NDArray[np.uint8]
    plain: NDArray[np.uint32]
    rare: frozenset[str]
    mapped: dict[str, str]
    _high: dict[str, list[list[int]]]

    def is_rare(self, char: str) -> bool:
        """Whether the character's normal form has to be looked up one by one."""
        return char in self.rare or char >= "\U00010000" or "\uac00" <= char <= "\ud7a3"

    def normal(self, char: str) -> tuple[int, str]:
        """Class and normal form of any character; empty when it is dropped."""
        if "\uac00" <= char <= "\ud7a3":
            return WORD, unicodedata.normalize("NFD", char)
        code = ord(char)
        if code < _PLANE:
            kind = int(self.kinds[code])
            return kind, "" if self.plain[code] == 0 else self.mapped.get(char, char)
        for name, ranges in self._high.items():
            at = bisect.bisect_right(ranges, code, key=lambda r: r[0]) - 1
            if at >= 0 and code <= ranges[at][1]:
                return (WORD, "") if name == "deleted" else (SINGLE, char)
        return WORD, self.mapped.get(char, char)


@functools.cache
def characters() -> Characters:
    """The tokenizer's characters; read once, 5 ms."""
    table = json.loads(_data("bert_uncased_chars.json.gz"))
    kinds = np.full(_PLANE, WORD, dtype=np.uint8)
    plain = np.arange(_PLANE, dtype=np.uint32)
    mapped: dict[str, str] = table.pop("map")
    rare = frozenset(c for c, normal in mapped.items() if len(normal) > 1 and ord(c) < _PLANE)
    for char, normal in mapped.items():
        if ord(char) < _PLANE and char not in rare:
            plain[ord(char)] = ord(normal)
    for name, ranges in table.items():
        for first, last in ranges:
            if name == "deleted":
                plain[first : last + 1] = 0
                continue
            kinds[first : last + 1] = SPACE if name == "space" else SINGLE
            plain[first : last + 1] = ord(" ")
    high = {name: [r for r in ranges if r[1] >= _PLANE] for name, ranges in table.items() if ranges}
    return Characters(kinds, plain, rare, mapped, high)


@functools.cache
def vocabulary() -> tuple[frozenset[str], frozenset[str]]:
    """Pieces that start a word, and pieces that continue one (without their `##`)."""
    pieces = _data("bert_uncased_vocab.txt.gz").decode().split("\n")
    rest = frozenset(p[2:] for p in pieces if p.startswith("##") and len(p) > 2)
    return frozenset(p for p in pieces if p and not p.startswith("##")) | {"##"}, rest


def _data(name: str) -> bytes:
    return gzip.decompress((files("chunkwise.rag.counting") / "data" / name).read_bytes())
