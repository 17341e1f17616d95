"""Counts words: for limits in words, as people state them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["WordCounter"]

_SPACES = np.array([c for c in range(0x3001) if chr(c).isspace()], dtype=np.uint32)
_IS_SPACE = np.zeros(0x3002, dtype=bool)
_IS_SPACE[_SPACES] = True


@dataclass(frozen=True)
class WordCounter:
    """Every run of characters that are not white space is a token."""

    fingerprint: ClassVar[str] = "words-1"
    is_additive: ClassVar[bool] = True

    def starts(self, text: str) -> NDArray[np.int32]:
        """Character offset at which each token starts; see `TokenCounter`."""
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        is_word = ~_IS_SPACE[np.minimum(codes, len(_IS_SPACE) - 1)]
        is_word[1:] &= ~is_word[:-1]
        return np.flatnonzero(is_word).astype(np.int32)

    def count(self, text: str) -> int:
        """Number of tokens of `text`."""
        return len(text.split())
