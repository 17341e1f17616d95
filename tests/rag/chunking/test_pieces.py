"""The shared core: the dynamic programme against brute force, breaks, clusters, the ruler."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import ConfigError
from chunkwise.rag._tiling import segment_dp
from chunkwise.rag.chunking.pieces import (
    Ruler,
    best_break,
    longest_run,
    whole_cluster,
)
from chunkwise.rag.counting import named_counter
from chunkwise.types import Document, Span


def tilings(n: int, min_len: int, max_len: int) -> Iterator[list[tuple[int, int]]]:
    for size in range(n + 1):
        for inner in itertools.combinations(range(1, n), max(0, size - 1)):
            edges = [0, *inner, n] if n else [0]
            tiles = list(itertools.pairwise(edges))
            if len(tiles) == size and all(min_len <= j - i <= max_len for i, j in tiles):
                yield tiles


@settings(deadline=None, max_examples=60)
@given(data=st.data(), n=st.integers(0, 9), lengths=st.tuples(st.integers(1, 3), st.integers(0, 6)))
def test_segment_dp_finds_what_trying_everything_finds(
    data: st.DataObject, n: int, lengths: tuple[int, int]
) -> None:
    min_len, max_len = lengths[0], lengths[0] + lengths[1]
    gains = {
        (i, j): data.draw(st.sampled_from([-math.inf, -2.5, -1.0, 0.0, 0.5, 3.0]))
        for i in range(n)
        for j in range(i + 1, n + 1)
    }
    values = [sum(gains[t] for t in tiles) for tiles in tilings(n, min_len, max_len)]
    best = max(values, default=-math.inf)
    if best == -math.inf:
        with pytest.raises(ConfigError, match="cannot be tiled"):
            segment_dp(lambda i, j: gains[i, j], n, min_len, max_len)
        return
    found = segment_dp(lambda i, j: gains[i, j], n, min_len, max_len)
    assert list(itertools.chain.from_iterable(found)) == sorted(
        itertools.chain.from_iterable(found)
    )
    assert found in list(tilings(n, min_len, max_len))
    assert sum(gains[tile] for tile in found) == pytest.approx(best)


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("One. Two.\n\nThree. Four five", "One. Two.\n\n"),
        ("One. Two.\r\n \r\nThree. Four", "One. Two.\r\n \r\n"),
        ("wrapped text goes\non here. And then some", "wrapped text goes\non here. "),
        ("- item one\n- item two and", "- item one\n"),
        ("He said (e.g. no) that it is; fine so", "He said (e.g. no) that it is; "),
        ("\u4e00\u4e8c\u3002\u4e09\u56db\uff0c\u4e94", "\u4e00\u4e8c\u3002"),
        ("only words here", "only words "),
        ("path/to/some", "path/to/"),
        ("unbroken", "unbroken"),
    ],
)
def test_best_break_prefers_the_largest_kind(text: str, cut: str) -> None:
    assert text[: best_break(text, 0, 1, len(text))] == cut


def test_best_break_takes_a_smaller_kind_after_low_before_a_larger_one_before_it() -> None:
    text = "A.\n\nSome words follow without an end"
    assert text[: best_break(text, 0, 12, 28)] == "A.\n\nSome words follow "


@pytest.mark.parametrize(
    ("text", "at", "expected"),
    [
        ("abc", 2, 2),
        ("ae\u0301b", 2, 1),
        ("a\r\nb", 2, 1),
        ("x\U0001f468\u200d\U0001f469", 3, 1),
        ("x\U0001f44d\U0001f3fd", 2, 1),
        ("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", 3, 2),
        ("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", 2, 2),
        ("e" + "\u0301" * 9, 5, 5),
    ],
)
def test_whole_cluster(text: str, at: int, expected: int) -> None:
    assert whole_cluster(text, 0, at) == expected


@settings(deadline=None, max_examples=60)
@given(text=st.text(alphabet="ab \n.\u4e2d", max_size=60), data=st.data())
def test_ruler_counts_exactly(text: str, data: st.DataObject) -> None:
    counter = named_counter("minilm")
    ruler = Ruler(Document("", text), counter, 5)
    start, end = sorted(data.draw(st.integers(0, len(text))) for _ in range(2))
    assert ruler.count(start, end) == counter.count(text[start:end])


def test_longest_run() -> None:
    text = "a b c dd ee ff gggg"
    pieces = [Span(0, 5), Span(6, 8), Span(9, 11), Span(12, 19)]
    ruler = Ruler(Document("", text), named_counter("words"), 4)
    assert longest_run(ruler, pieces, 4) == 3
    assert longest_run(ruler, pieces, 1) == 1
