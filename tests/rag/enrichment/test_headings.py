"""Headings and table header fit their limit; the inner ones stay longest."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from chunkwise.rag.enrichment.headings import context_of

CONTEXTS = [
    (("Part", "Chapter", "Section"), "", 5, "Part > Chapter > Section"),
    (("Part", "Chapter", "Section"), "", 4, "Chapter > Section"),
    (("Part", "Chapter", "Section"), "a b", 3, "Section\na b"),
    (("Part",), "a b c d", 4, "Part"),
    (("Part",), "a b c d", 3, "Part"),
    (("one two three four",), "", 3, "one two three"),
    ((), "a b c d", 2, ""),
    ((), "", 5, ""),
    (("Part",), "a", 0, ""),
]


@dataclasses.dataclass(frozen=True)
class _Blanks:
    """Counts words between blanks."""

    fingerprint: str = "blanks"
    is_additive: bool = True

    def starts(self, text: str) -> Any:
        return np.array([m.start() for m in re.finditer(r"\S+", text)], dtype=np.int32)

    def count(self, text: str) -> int:
        return len(text.split())


@pytest.mark.parametrize(("headings", "header", "limit", "expected"), CONTEXTS)
def test_context_fits_its_limit(
    headings: tuple[str, ...], header: str, limit: int, expected: str
) -> None:
    counter = _Blanks()
    context = context_of(headings, header, max_tokens=limit, counter=counter)
    assert context == expected
    assert counter.count(context) <= limit
