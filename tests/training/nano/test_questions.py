"""Every kind of question: answerable from all that it needs and from nothing less."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.prompting import NOT_FOUND
from chunkwise.training.nano.questions import Context, Names, compose, kinds
from chunkwise.training.nano.questions.names import split_of
from chunkwise.training.nano.stages import EVERYTHING, Mix
from tests.training.nano.solver import World

KINDS = kinds.own
SEEDS = st.integers(0, 2**40)
SIZES = st.integers(1, 5)


def drawn(kind: str, seed: int, size: int, split: str = "train") -> Context:
    chance = random.Random(seed)
    names = Names(chance, split)  # type: ignore[arg-type]
    return compose([kinds.build(kind).draw(chance, names, size)], chance)


def same(found: str | None, wanted: str) -> bool:
    return (found or NOT_FOUND).casefold() == wanted.casefold()


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS, size=SIZES)
def test_a_solver_with_all_passages_finds_each_answer(kind: str, seed: int, size: int) -> None:
    context = drawn(kind, seed, size)
    world = World(context.passages)
    for question in context.questions:
        assert same(world.answer(question.text), question.answer), (context.passages, question)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS, size=SIZES)
def test_without_any_needed_passage_the_answer_cannot_be_told(
    kind: str, seed: int, size: int
) -> None:
    context = drawn(kind, seed, size)
    for question in context.questions:
        for taken in question.needs:
            left = [None if i == taken else text for i, text in enumerate(context.passages)]
            found = World(left).answer(question.text)
            assert not same(found, question.answer), (context.passages, question, taken)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS, size=SIZES)
def test_a_solver_that_sees_one_passage_at_a_time_never_answers_over_several(
    kind: str, seed: int, size: int
) -> None:
    context = drawn(kind, seed, size)
    for question in context.questions:
        if len(question.needs) > 1:
            alone = [World([text]).answer(question.text) for text in context.passages]
            assert not any(same(found, question.answer) for found in alone if found)


@pytest.mark.parametrize("kind", ["bridge", "coreference"])
@given(seed=SEEDS, size=st.integers(2, 5))
def test_what_a_passage_means_is_said_before_it(kind: str, seed: int, size: int) -> None:
    context = drawn(kind, seed, size)
    far = [question for question in context.questions if question.indirect]
    assert far
    for question in far:
        assert question.indirect < question.needs
        assert max(question.indirect) < max(question.needs)
        assert question.answer in context.passages[max(question.needs)]
        rivals = {q.answer for q in far if q is not question}
        assert question.answer not in rivals, "a guess among equals must be a guess"


@given(seed=SEEDS)
def test_drafts_in_one_context_do_not_disturb_each_other(seed: int) -> None:
    chance = random.Random(seed)
    context = EVERYTHING.draw(chance, "train")
    world = World(context.passages)
    for question in context.questions:
        assert question.needs <= set(range(len(context.passages)))
        assert same(world.answer(question.text), question.answer), (context.passages, question)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_is_a_test_set(kind: str) -> None:
    assert drawn(kind, 7, 3) == drawn(kind, 7, 3)
    assert drawn(kind, 7, 3) != drawn(kind, 8, 3)


def test_splits_share_no_name() -> None:
    seen: dict[str, set[str]] = {}
    for split in ("train", "valid", "test"):
        names = Names(random.Random(1), split)  # type: ignore[arg-type]
        open_pools = [lambda n=names: n.value("thing"), lambda n=names: n.value("city")]
        makers = [lambda n=names: n.person().name, names.alias, *open_pools]
        seen[split] = {make() for make in makers for _ in range(60)}
        if split != "train":
            assert all(split_of(name) == split for name in seen[split])
    assert not seen["train"] & seen["valid"]
    assert not seen["train"] & seen["test"]
    assert not seen["valid"] & seen["test"]


@given(seed=SEEDS)
def test_no_name_comes_twice(seed: int) -> None:
    names = Names(random.Random(seed), "test")
    made = [names.person().name for _ in range(20)] + [names.alias() for _ in range(20)]
    made += [names.value("instrument") for _ in range(8)]
    assert len(set(made)) == len(made)


@given(seed=SEEDS)
def test_values_that_are_alike_begin_in_one_of_two_ways(seed: int) -> None:
    names = Names(random.Random(seed), "train", is_alike=True)
    for pool in ("thing", "dish"):
        made = [names.value(pool) for _ in range(12)]  # type: ignore[arg-type]
        assert len({name.removeprefix("the ").split()[0] for name in made}) <= 2
        assert len(set(made)) == len(made)
    assert {names.value("year")[:2] for _ in range(12)} <= {"18", "19"}


@given(seed=SEEDS)
def test_only_contexts_to_learn_from_have_values_that_are_alike(seed: int) -> None:
    plain = Mix({"one_hop": 1.0}, (8, 8))
    alike = replace(plain, alike=1.0)
    assert alike.draw(random.Random(seed), "test") == plain.draw(random.Random(seed), "test")
    dishes = {
        question.answer.split()[0]
        for question in alike.draw(random.Random(seed), "train").questions
        if question.text.startswith("Which dish")
    }
    assert len(dishes) <= 2


def test_questions_can_be_drawn_without_torch() -> None:
    import subprocess
    import sys

    code = "import sys, chunkwise.training.nano.questions; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
