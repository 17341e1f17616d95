"""Buckets and batches: every item once, constant tokens, short before long."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import ConfigError
from chunkwise.training.packing import Packing, Passes, decompose, pack


@given(st.integers(0, 5000), st.integers(0, 5), st.integers(0, 6), st.booleans())
def test_pieces_are_powers_of_two_and_one_and_leave_less_than_the_smallest(
    length: int, low: int, more: int, is_drawn: bool
) -> None:
    high = low + more
    pieces = decompose(length, low=low, high=high, chance=random.Random(0) if is_drawn else None)
    assert all((p - 1).bit_count() == 1 and 1 << low <= p - 1 <= 1 << high for p in pieces)
    assert 0 <= length - sum(pieces) <= 1 << low
    if not is_drawn:
        assert pieces == sorted(pieces, reverse=True)


def test_a_document_worked_out_by_hand() -> None:
    # 300 = 257 + 33 + 9 and 1 dropped; at most 64: 65 + 65 + 65 + 65 + 33, and 7 dropped.
    assert decompose(300, low=3, high=10) == [257, 33, 9]
    assert decompose(300, low=3, high=6) == [65, 65, 65, 65, 33]


def test_drawn_pieces_give_every_bucket_as_many_tokens() -> None:
    chance = random.Random(1)
    tokens = dict.fromkeys(range(4, 8), 0)
    for piece in decompose(2_000_000, low=4, high=7, chance=chance)[:20_000]:
        tokens[(piece - 1).bit_length() - 1] += piece - 1
    mean = sum(tokens.values()) / len(tokens)
    assert all(abs(t - mean) < 0.1 * mean for t in tokens.values())


LENGTHS = st.lists(st.integers(1, 500), max_size=120)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 900), st.integers(1, 5), st.floats(1, 8), st.integers(0, 9))
def test_every_item_is_in_one_batch_within_the_budget(
    lengths: list[int], budget: int, cycles: int, growth: float, seed: int
) -> None:
    packing = Packing(budget, growth, cycles)
    batches = pack(lengths, lengths, packing, random.Random(seed))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(b) == 1 or sum(lengths[i] for i in b) <= budget for b in batches)
    assert batches == pack(lengths, lengths, packing, random.Random(seed))


def test_batches_are_full_but_for_the_last_of_a_cycle() -> None:
    chance = random.Random(0)
    lengths = [chance.choice((10, 30, 60, 120)) for _ in range(4000)]
    batches = pack(lengths, lengths, Packing(1000, 2.0, 4), random.Random(0))
    small = [b for b in batches if sum(lengths[i] for i in b) < 880]
    assert len(small) <= 4


def test_a_cycle_goes_from_short_to_long_and_natural_odds_do_not() -> None:
    chance = random.Random(0)
    lengths = [chance.choice((16, 32, 64, 128, 256)) for _ in range(6000)]

    def rise(growth: float) -> float:
        """Mean length of the second half of all cycles over that of the first."""
        batches = pack(lengths, lengths, Packing(1024, growth, 2), random.Random(3))
        means = [sum(lengths[i] for i in b) / len(b) for b in batches]
        quarter = len(means) // 4
        first = means[:quarter] + means[2 * quarter : 3 * quarter]
        second = means[quarter : 2 * quarter] + means[3 * quarter :]
        return (sum(second) / len(second)) / (sum(first) / len(first))

    assert rise(4.0) > 1.5
    assert 0.8 < rise(1.0) < 1.25


def test_steps_run_through_pass_after_pass_in_any_order_of_asking() -> None:
    passes = Passes(lambda number: [[number], [number, 1]] if number % 2 else [[number]])
    expected = [(0, [0]), (1, [1]), (1, [1, 1]), (2, [2]), (3, [3]), (3, [3, 1])]
    assert [passes.at(step) for step in range(6)] == expected
    assert [passes.at(step) for step in (4, 0, 5, 2)] == [expected[i] for i in (4, 0, 5, 2)]


@pytest.mark.parametrize("wrong", [(0, 2.0, 1), (10, 0.5, 1), (10, 2.0, 0)])
def test_values_that_cannot_work_are_refused(wrong: tuple[int, float, int]) -> None:
    with pytest.raises(ConfigError):
        Packing(*wrong)
