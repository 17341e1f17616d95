"""Batches are a function of seed, step and stage, wherever they are drawn."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from chunkwise.training.nano import stages
from chunkwise.training.nano.ahead import Ahead, Batches
from chunkwise.training.nano.drawing import Drawing
from chunkwise.training.nano.real import Case
from chunkwise.training.nano.recipe import NanoRecipe
from chunkwise.training.nano.reused import ReusedBatch

CASES = [
    Case(
        "squad2", "train", (f"The mill of place {i} is old.",), ((f"What is old in {i}?", "mill"),)
    )
    for i in range(9)
]
STEPS = range(12)


@pytest.fixture(scope="module")
def drawing(tokenizer_text: str) -> Drawing:
    recipe = NanoRecipe(batch_tokens=600, micro_tokens=400)
    return Drawing(recipe, 5, tokenizer_text, CASES, stages.STAGES[-2:])


@pytest.fixture
def ahead(drawing: Drawing) -> Iterator[Ahead]:
    opened = Ahead(drawing, 1)
    yield opened
    opened.close()


def same(some: Batches, others: Batches) -> bool:
    """Whether batches hold equal arrays."""
    if [type(each) for each in some] != [type(each) for each in others]:
        return False
    pairs = zip(itertools.chain(*some), itertools.chain(*others), strict=True)
    return all(np.array_equal(one, two) for one, two in pairs)


def test_a_share_of_the_question_steps_reuses_chunks(drawing: Drawing) -> None:
    kinds = [drawing.kind(step, 1) for step in range(400)]
    asked = [kind for kind in kinds if not kind.is_text]
    share = sum(kind.is_reused for kind in asked) / len(asked)
    assert share == pytest.approx(stages.STAGES[-1].reused, abs=0.08)
    assert any(kind.is_reused and kind.is_real for kind in kinds)
    assert not any(drawing.kind(step, 0).is_reused for step in range(50))
    for step in STEPS:
        kind = drawing.kind(step, 1)
        if not kind.is_text:
            batches = drawing.questions(step, 1)
            assert all(isinstance(batch, ReusedBatch) == kind.is_reused for batch in batches)
            assert 100 < sum(batch.tokens for batch in batches) < 1500


def test_batches_from_another_process_are_the_same(drawing: Drawing, ahead: Ahead) -> None:
    def place(step: int) -> int:
        return int(step >= 6)

    for step in STEPS:
        if not drawing.kind(step, place(step)).is_text:
            got = ahead.get(step, place(step), STEPS[-1] + 1, place)
            assert same(got, drawing.questions(step, place(step)))
            assert not same(got, drawing.questions(step + 50, place(step)))


def test_a_stage_that_ends_early_has_its_own_batches(drawing: Drawing, ahead: Ahead) -> None:
    step = next(n for n in STEPS if not (drawing.kind(n, 0).is_text or drawing.kind(n, 1).is_text))
    ahead.get(step, 0, step + 1, lambda _: 0)
    again = ahead.get(step, 1, step + 1, lambda _: 1)
    assert same(again, drawing.questions(step, 1))
