"""Tokens: cover, joins, features that depend on what they say they do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.rag.sentences.tokens import MAX_TOKEN_CHARS, NUM_FIXED, Tokens, tokenize

BUCKETS = 4096


def tokens_of(text: str, *ruled: int) -> Tokens:
    return tokenize(text, np.array(ruled, np.int64), BUCKETS)


def words(text: str) -> list[str]:
    tokens = tokens_of(text)
    return [text[a:b] for a, b in zip(tokens.starts, tokens.ends, strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's 3 o'clock.", ["It", "'", "s", "3", "o", "'", "clock", "."]),
        ("これは文。", ["こ", "れ", "は", "文", "。"]),
        ("हिन्दी है।", ["हिन्दी", "है", "।"]),
        ("e\u0301te\u0301 ok", ["e\u0301te\u0301", "ok"]),
        (" a\u00a0b\r\n", ["a", "b"]),
        ("\U0001f468\u200d\U0001f469!", ["\U0001f468\u200d\U0001f469", "!"]),
        ("x" * 40, ["x" * 16, "x" * 16, "x" * 8]),
        ("", []),
        (" \n", []),
    ],
)
def test_words_marks_and_characters(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@settings(deadline=None)
@given(st.text(max_size=80))
def test_tokens_are_all_that_is_not_blank(text: str) -> None:
    tokens = tokens_of(text)
    assert "".join(words(text)) == "".join(text.split())
    assert (tokens.ends - tokens.starts <= MAX_TOKEN_CHARS).all()
    assert ((tokens.ids >= 0) & (tokens.ids < NUM_FIXED + BUCKETS)).all()
    assert (tokens.ids[:, :6] >= NUM_FIXED).all()
    assert (tokens.ids[:, 6:] < NUM_FIXED).all()


@settings(deadline=None)
@given(st.text(alphabet="ab.ก文 \n", max_size=40), st.text(alphabet="ab.ก文 \n", max_size=40))
def test_features_know_only_what_is_near(left: str, right: str) -> None:
    alone, together = tokens_of(left), tokens_of(left + right)
    kept = max(0, len(alone.starts) - 4)
    np.testing.assert_array_equal(alone.ids[:kept], together.ids[:kept])


def test_case_is_told_but_words_are_the_same() -> None:
    lower, upper = tokens_of("word"), tokens_of("WORD")
    np.testing.assert_array_equal(lower.ids[:, :6], upper.ids[:, :6])
    assert lower.ids[0, 6] != upper.ids[0, 6]


def test_gaps_and_rules_are_told() -> None:
    gaps = [tokens_of(text).ids[0, 7] for text in ("a-b", "a b", "a\nb", "a \r\n b", "a\n \nb")]
    assert len({*gaps}) == 4
    assert gaps[2] == gaps[3]
    assert tokens_of("a b", 1).ids[0, 7] == tokens_of("a b").ids[0, 7] + 1


def test_a_long_word_is_marked_as_cut() -> None:
    assert tokens_of("x" * 33 + " y").is_cut.tolist() == [True, True, False, False]
