"""Which items share a batch: buckets by length, short to long in cycles. No tensors.

Source: Pouransari et al., Dataset Decomposition: Faster LLM Training with Variable Sequence
    Length Curriculum (arXiv 2405.13226).
Differs: the paper's buckets hold one length each, which `decompose` makes of documents; items
    that cannot be cut, such as questions with their passages, are put into buckets of lengths up
    to the same power of two. What does not fill a batch goes to the next longer bucket, so that
    every item is in one batch.
Exact when: `growth=1`: batches come in the natural mixture.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from chunkwise.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Packing:
    """How items are put into batches.

    Attributes:
        batch_tokens: Most tokens of a batch; an item with more has a batch of its own.
        growth: Odds of a bucket over those of the next longer one, at least 1; above 1 a cycle
            goes from short to long.
        cycles: How often a pass over the data goes from short to long.
    """

    batch_tokens: int
    growth: float = 2.0
    cycles: int = 4

    def __post_init__(self) -> None:
        for name, low in (("batch_tokens", 1), ("growth", 1), ("cycles", 1)):
            if getattr(self, name) < low:
                raise ConfigError(f"`{name}` must be at least {low}, got {getattr(self, name)!r}.")


def decompose(
    length: int, *, low: int, high: int, chance: random.Random | None = None
) -> list[int]:
    """Lengths of the pieces a document of `length` tokens is cut into, in order.

    Each is `2**k + 1`, so that inputs and shifted targets have `2**k` tokens. Each piece is the
    longest that fits; what is left below `2**low + 1` is dropped.

    Args:
        length: Tokens of the document, its end token included.
        low: Smallest `k`.
        high: Largest `k`.
        chance: Draws `k` where more than `2**high` are left, with odds 1, 2, 4 ... towards the
            short side, so that all buckets get as many tokens; None: always `high`.
    """
    pieces = []
    while length - 1 >= 1 << low:
        k = (length - 1).bit_length() - 1
        if k > high:
            k = high if chance is None else _drawn(low, high, chance)
        pieces.append((1 << k) + 1)
        length -= pieces[-1]
    return pieces


def pack(
    lengths: Sequence[int], tokens: Sequence[int], packing: Packing, chance: random.Random
) -> list[list[int]]:
    """Batches of one pass over the data, in the order in which they are learnt from.

    Args:
        lengths: What decides an item's bucket: the length of its longest sequence.
        tokens: Tokens of each item in all.
        packing: How.
        chance: Shuffles inside a bucket and draws the order of batches.

    Returns:
        Indices of items; each index is in exactly one batch.
    """
    buckets: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        buckets.setdefault(max(length - 1, 0).bit_length(), []).append(i)
    for bucket in sorted(buckets):
        chance.shuffle(buckets[bucket])
    found: list[list[int]] = []
    for cycle in range(packing.cycles):
        mine = {k: items[cycle :: packing.cycles] for k, items in sorted(buckets.items())}
        found += _ordered(_filled(mine, tokens, packing.batch_tokens), packing.growth, chance)
    return found


class Passes:
    """Batches by step over pass after pass; a pure function of what `make` gives for each pass.

    Args:
        make: Batches of pass `n`, from 0; at least one.
    """

    def __init__(self, make: Callable[[int], Sequence[Sequence[int]]]) -> None:
        self._make = make
        self._number, self._start, self._batches = 0, 0, make(0)

    def at(self, step: int) -> tuple[int, Sequence[int]]:
        """The pass that `step` falls into, and the items of its batch."""
        if step < self._start:
            self._number, self._start, self._batches = 0, 0, self._make(0)
        while step >= self._start + len(self._batches):
            self._start += len(self._batches)
            self._number += 1
            self._batches = self._make(self._number)
        return self._number, self._batches[step - self._start]


def _filled(
    buckets: dict[int, list[int]], tokens: Sequence[int], budget: int
) -> dict[int, list[list[int]]]:
    """Full batches of each bucket; what is left over goes on into the next longer one."""
    full: dict[int, list[list[int]]] = {}
    rest: list[int] = []
    for bucket, items in buckets.items():
        *full[bucket], rest = list(_runs([*rest, *items], tokens, budget)) or [[]]
    if rest:
        full[max(buckets)].append(rest)
    return full


def _runs(items: Sequence[int], tokens: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Neighbours of at most `budget` tokens together, at least one each."""
    run: list[int] = []
    total = 0
    for item in items:
        if run and total + tokens[item] > budget:
            yield run
            run, total = [], 0
        run.append(item)
        total += tokens[item]
    if run:
        yield run


def _ordered(
    batches: dict[int, list[list[int]]], growth: float, chance: random.Random
) -> list[list[int]]:
    """All batches; each next one from a bucket drawn by batches left and by length."""
    left = {bucket: list(reversed(some)) for bucket, some in batches.items() if some}
    order = []
    while left:
        keys = list(left)
        odds = [len(left[k]) * growth ** (keys[-1] - k) for k in keys]
        (bucket,) = chance.choices(keys, odds)
        order.append(left[bucket].pop())
        if not left[bucket]:
            del left[bucket]
    return order


def _drawn(low: int, high: int, chance: random.Random) -> int:
    (k,) = chance.choices(range(low, high + 1), [2.0 ** (high - k) for k in range(low, high + 1)])
    return k
