"""Counts characters: for limits in characters, and where no tokenizer is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["CharCounter"]


@dataclass(frozen=True)
class CharCounter:
    """Every character is a token, white space included."""

    fingerprint: ClassVar[str] = "chars-1"
    is_additive: ClassVar[bool] = True

    def starts(self, text: str) -> NDArray[np.int32]:
        """Character offset at which each token starts; see `TokenCounter`."""
        return np.arange(len(text), dtype=np.int32)

    def count(self, text: str) -> int:
        """Number of tokens of `text`."""
        return len(text)
