"""The reader's loss over spans: one softmax over the tokens of all passages and "no answer"."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from chunkwise.rag.answering.network import Packed
from chunkwise.training.spans.examples import Example


@dataclass
class _Rows:
    """Rows of a pack, and for each the example that it belongs to."""

    places: list[int] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)

    def add(self, places: Sequence[int], owner: int) -> None:
        self.places.extend(places)
        self.owners.extend([owner] * len(places))


def span_loss(examples: Sequence[Example], logits: Tensor, packed: Packed) -> Tensor:
    """Mean over the examples of minus the log-probability of the allowed starts and ends.

    Args:
        examples: In the order in which their windows were given to `pack`.
        logits: Of all tokens of the pack as first and as last: `(total_tokens, 2)`.
        packed: Where each window stands.
    """
    tokens, *allowed = _rows(examples, packed)
    everyone = list(range(len(examples)))
    refused = [owner for owner in everyone if not examples[owner].starts]
    losses = []
    for side, right in enumerate(allowed):
        whole = _log_sums(logits[:, side], tokens, everyone, len(examples))
        losses.append(whole - _log_sums(logits[:, side], right, refused, len(examples)))
    return torch.stack(losses).sum(dim=0).mean()


def _rows(examples: Sequence[Example], packed: Packed) -> tuple[_Rows, _Rows, _Rows]:
    """The passages' tokens, the allowed first ones, and the allowed last ones."""
    tokens, starts, ends = _Rows(), _Rows(), _Rows()
    firsts = iter(_first_rows(packed))
    for owner, example in enumerate(examples):
        mine: list[int] = []
        for window, first in zip(example.windows, firsts, strict=False):
            mine.extend(range(first + window.head, first + window.head + window.own))
        tokens.add(mine, owner)
        starts.add([mine[place] for place in example.starts], owner)
        ends.add([mine[place] for place in example.ends], owner)
    return tokens, starts, ends


def _first_rows(packed: Packed) -> list[int]:
    """For each window as it was given, its first row in the pack."""
    lengths = [length for length, n in packed.runs for _ in range(n)]
    starts = itertools.accumulate(lengths, initial=0)
    return [row for _, row in sorted(zip(packed.order, starts, strict=False))]


def _log_sums(values: Tensor, rows: _Rows, none: Sequence[int], count: int) -> Tensor:
    """Log of the sum of exponentials of each example's rows: `(count,)`.

    Args:
        values: Of all rows of the pack.
        rows: Which of them, and whose.
        none: Examples for which "no answer", with its 0, counts too.
        count: How many examples; each has a row or is in `none`.
    """
    places = torch.tensor(rows.places, dtype=torch.long, device=values.device)
    owners = torch.tensor([*rows.owners, *none], dtype=torch.long, device=values.device)
    mine = torch.cat([values[places], values.new_zeros(len(none))])
    highest = values.new_full((count,), -torch.inf)
    highest = highest.scatter_reduce(0, owners, mine.detach(), "amax")
    odds = torch.exp(mine - highest[owners])
    return torch.log(values.new_zeros(count).index_add(0, owners, odds)) + highest
