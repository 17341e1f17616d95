"""Corruption: text equals the evaluation's own, labels move with the characters."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.evaluation.segmentation import GoldText, corrupted
from chunkwise.rag.sentences.network import MARKS
from chunkwise.training.sentences.corruption import CLEAN, STRIPPED, Corruption, Labelled, corrupt

TEXT = 'He said: "No." She left - at 5 p.m.!\nWhy? 一つ。二つ、はい。'


def labelled(text: str, *ends: int) -> Labelled:
    return Labelled(text, np.array(ends, np.int64), np.zeros(0, np.int64))


def test_clean_text_stays() -> None:
    found = corrupt(labelled(TEXT, 14, 36), CLEAN, random.Random(0))
    assert found.text == TEXT
    assert found.ends.tolist() == [14, 36]


@settings(deadline=None)
@given(st.text(alphabet="aB .,。\n-É文", max_size=40), st.data())
def test_stripped_text_is_that_of_the_evaluation(text: str, data: st.DataObject) -> None:
    ends = data.draw(st.sets(st.integers(1, max(len(text), 1)), max_size=4)) if text else set()
    found = corrupt(labelled(text, *sorted(ends)), STRIPPED, random.Random(0))
    expected = corrupted(GoldText(text, tuple(sorted(ends))))
    assert "".join(found.text.split()) == "".join(expected.text.split())
    moved = {len(expected.text[:end].rstrip()) for end in expected.ends} - {0}
    solid = {len("".join(expected.text[:end].split())) for end in moved} - {0}
    assert {len("".join(found.text[:end].split())) for end in found.ends} == solid


def test_stripped_text_has_no_double_blanks() -> None:
    found = corrupt(labelled(TEXT, 14), STRIPPED, random.Random(0))
    assert found.text == corrupted(GoldText(TEXT, (14,))).text
    assert found.ends.tolist() == [len("he said no")]


def test_the_mark_behind_a_character_is_told_also_when_it_is_gone() -> None:
    found = corrupt(labelled(TEXT), STRIPPED, random.Random(0))
    told = {
        found.text[: i + 1].split()[-1]: MARKS[mark]
        for i, mark in enumerate(found.marks)
        if mark and not found.text[i].isspace()
    }
    assert told["said"] == "colon"
    assert told["no"] == "period"
    assert told["why"] == "question"
    assert told["一つ"] == "period"


def test_breaks_become_spaces_or_come_elsewhere() -> None:
    text = "word " * 60 + "\nend"
    spaced = corrupt(labelled(text), Corruption(breaks="space"), random.Random(0)).text
    wrapped = corrupt(labelled(text), Corruption(breaks="wrap"), random.Random(0)).text
    assert "\n" not in spaced
    lines = wrapped.split("\n")
    assert len(lines) > 2
    assert max(map(len, lines)) <= 101
    assert wrapped.split() == text.split()
    assert corrupt(labelled("一二"), Corruption(breaks="wrap"), random.Random(0)).text == "一二"


def test_a_share_of_the_marks_is_removed() -> None:
    text = "a, " * 1000
    kept = corrupt(labelled(text), Corruption(removed=0.3), random.Random(0)).text.count(",")
    assert 600 < kept < 800
