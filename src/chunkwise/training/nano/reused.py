"""Questions over reused chunks as arrays: what is computed alone, what afresh, and where it stands.

Chunks are computed alone, each behind the anchor, and placed in the prompt; everything else of the
prompt is computed as ever. One reading of the chunks serves several questions, of which each has
a prompt and a share of the chunks' tokens computed afresh (`repair.py`) of its own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chunkwise.training.nano.prompts import NONE, Row
from chunkwise.training.nano.sight import padded

QUESTION_TOKENS = 64
"""Tokens at the end of the prompt whose attention counts, at most; as in the engine."""
UNSEEN, SEEN, COUNTED = range(3)
"""What a token is to the first pass: not computed, computed, and its attention counted."""
_MULTIPLE = 8  # widths of masks that CUDA's attention takes as they are
_USUAL, _USUALLY = (0.05, 0.3), 0.85
_OFTEN = 0.9


@dataclass(frozen=True, slots=True)
class Example:
    """A context with some of its questions.

    Attributes:
        row: The context.
        anchor: Tokens that its chunks are computed behind.
        branches: Questions of the row, by branch.
        ratios: Share of the chunks' tokens that each question has computed afresh.
    """

    row: Row
    anchor: Sequence[int]
    branches: Sequence[int]
    ratios: Sequence[float]

    @property
    def tokens(self) -> int:
        """How many are computed, about."""
        chunks = sum(map(bool, self.row.chunk))
        text = self.row.branch.count(0) - chunks
        own = sum(branch in self.branches for branch in self.row.branch)
        afresh = sum(round(ratio * chunks) for ratio in self.ratios)
        return len(self.anchor) + chunks + text * len(self.branches) + own + afresh


class ReusedBatch(NamedTuple):
    """Examples in arrays of int32.

    Attributes:
        stale: Anchor and chunks of each context: ids; chunk from 1, 0 in the anchor, -1 where
            padded; place in the prompt; position while computed: `(4, contexts, tokens)`.
        fresh: The rest of the prompt and the answer of each question: ids; position, -1 where
            padded; target inside of answers; next token inside of questions; what it is to the
            first pass: `(5, questions, tokens)`.
        asked: Of each question its context, the chunks' tokens computed afresh for it, and the
            length of its context's anchor: `(3, questions)`.
        tokens: Tokens computed, padding left out.
        size: Tokens of answers.
    """

    stale: NDArray[np.int32]
    fresh: NDArray[np.int32]
    asked: NDArray[np.int32]
    tokens: int
    size: int


class _Stale(NamedTuple):
    """One context's lists for `ReusedBatch.stale`, and the places of its tokens in the row."""

    ids: list[int]
    chunk: list[int]
    placed: list[int]
    at: list[int]
    taken: frozenset[int]


def draw_shares(chance: random.Random) -> tuple[float, float]:
    """Least and largest share computed afresh in a step: mostly cheap ones; never 0, where nothing
    ties a later passage to an earlier one. One range for all, or one dear question would be
    padding for all others."""
    return _USUAL if chance.random() < _USUALLY else (_USUAL[1], _OFTEN)


def in_batches(examples: Sequence[Example], batch_tokens: int) -> Iterator[list[Example]]:
    """The examples, short ones first, so many at a time that about as many tokens are computed."""
    some: list[Example] = []
    tokens = 0
    for example in sorted(examples, key=lambda each: len(each.row.ids)):
        if some and tokens + example.tokens > batch_tokens:
            yield some
            some, tokens = [], 0
        some.append(example)
        tokens += example.tokens
    if some:
        yield some


def pack(examples: Sequence[Example]) -> ReusedBatch:
    """Examples as one batch, questions in the order of their contexts."""
    stale = [_stale(example) for example in examples]
    fresh: list[tuple[list[int], ...]] = []
    asked = []
    for number, (example, alone) in enumerate(zip(examples, stale, strict=True)):
        chunks = len(alone.taken)
        for branch, ratio in zip(example.branches, example.ratios, strict=True):
            fresh.append(_fresh(example.row, branch, alone))
            asked.append((number, round(ratio * chunks), len(example.anchor)))
    targets = [target for lists in fresh for target in lists[2]]
    return ReusedBatch(
        _stacked([each[:4] for each in stale], (0, -1, 0, 0)),
        _stacked(fresh, (0, -1, NONE, NONE, UNSEEN)),
        np.array(asked, np.int32).T,
        sum(example.tokens for example in examples),
        sum(target != NONE for target in targets),
    )


def _stacked(rows: Sequence[tuple[list[int], ...]], fills: Sequence[int]) -> NDArray[np.int32]:
    parts = zip(*rows, strict=True)
    return np.stack([padded(p, fill, _MULTIPLE) for p, fill in zip(parts, fills, strict=True)])


def _stale(example: Example) -> _Stale:
    """Anchor and chunks; a chunk that comes again is text like any other."""
    row, size = example.row, len(example.anchor)
    found = _Stale([*example.anchor], [0] * size, [0] * size, [*range(size)], frozenset())
    seen: set[tuple[int, ...]] = set()
    taken: list[int] = []
    for number in range(1, 1 + max(row.chunk)):
        first = row.chunk.index(number)
        length = row.chunk.count(number)
        ids = tuple(row.ids[first : first + length])
        if ids in seen:
            continue
        seen.add(ids)
        places = range(first, first + length)
        found.ids.extend(ids)
        found.chunk.extend([number] * length)
        found.placed.extend(places)
        found.at.extend(range(size, size + length))
        taken += places
    return found._replace(taken=frozenset(taken))


def _fresh(row: Row, branch: int, alone: _Stale) -> tuple[list[int], ...]:
    """A question's lists for `ReusedBatch.fresh`; in contexts a token's index is its position."""
    context = row.branch.count(0)
    own = [i for i, b in enumerate(row.branch) if b == branch]
    places = [*(i for i in range(context) if i not in alone.taken), *own]
    positions = [row.positions[i] for i in places]
    targets = [row.targets[i] for i in places]
    length = context + sum(row.targets[i] == NONE for i in own) + 1  # its last token has a target
    behind = context - row.chunk[:context][::-1].index(max(row.chunk))
    counted = max(behind, length - QUESTION_TOKENS)
    first = min(alone.taken)
    roles = [_role(p, first, behind, counted, length) for p in positions]
    following = [NONE] * len(places)
    for i in range(len(places) - len(own), len(places) - 1):
        if targets[i] == NONE:
            following[i] = row.ids[places[i + 1]]
    return [row.ids[i] for i in places], positions, targets, following, roles


def _role(position: int, first: int, behind: int, counted: int, length: int) -> int:
    """The first pass has what stands before the first chunk and behind the last one."""
    if counted <= position < length:
        return COUNTED
    return SEEN if position < first or behind <= position < length else UNSEEN
