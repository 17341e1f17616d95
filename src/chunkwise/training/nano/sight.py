"""Rows to tensors, and what each token sees.

The masks are where "attended to separately" is defined: a passage sees the start of the prompt
and itself, as when its keys and values were computed alone; a question sees everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chunkwise.training.nano.prompts import NONE, Row


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one batch, padded: `(rows, tokens)` each.

    Attributes:
        ids: Token ids; 0 where padded.
        positions: Of each token.
        branch: See `Row`; -1 where padded.
        passage: See `Row`.
        targets: See `Row`.
    """

    ids: Tensor
    positions: Tensor
    branch: Tensor
    passage: Tensor
    targets: Tensor

    @classmethod
    def of(cls, rows: Sequence[Row], device: torch.device | str = "cpu") -> Table:
        """The rows as tensors."""
        return cls(*torch.from_numpy(packed(rows)).to(device).long())


def packed(rows: Sequence[Row]) -> NDArray[np.int32]:
    """The rows as one array for `Table`: `(5, rows, tokens)`."""
    parts = (
        padded([row.ids for row in rows], 0),
        padded([row.positions for row in rows], 0),
        padded([row.branch for row in rows], -1),
        padded([row.passage for row in rows], 0),
        padded([row.targets for row in rows], NONE),
    )
    return np.stack(parts)


def padded(lists: Sequence[Sequence[int]], fill: int, multiple: int = 1) -> NDArray[np.int32]:
    """Lists as rows of one width, a multiple of a number: `(rows, width)`."""
    longest = max(map(len, lists))
    found = np.full((len(lists), -(-longest // multiple) * multiple), fill, np.int32)
    for row, values in zip(found, lists, strict=True):
        row[: len(values)] = values
    return found


def flags(hidden: Sequence[Sequence[frozenset[int]]], passages: int) -> NDArray[np.bool_]:
    """For each row and branch the passages that it does not see: `(rows, 1 + branches,
    1 + passages)`, both counted from 1.

    Args:
        hidden: For each row and question, passages from 0.
        passages: Most passages of a row.
    """
    found = np.zeros((len(hidden), 1 + max(map(len, hidden)), 1 + passages), np.bool_)
    for i, row in enumerate(hidden):
        for j, places in enumerate(row, start=1):
            found[i, j, [place + 1 for place in places]] = True
    return found


def sight(
    table: Table, *, hidden: NDArray[np.bool_] | None = None, is_separate: bool = False
) -> Tensor:
    """What each token sees: `(rows, 1, tokens, tokens)`, True for seen.

    Args:
        table: The rows.
        hidden: What branches do not see, see `flags`.
        is_separate: Passages do not see each other.
    """
    branch, passage = table.branch, table.passage
    seen = branch.unsqueeze(1) == branch.unsqueeze(2)  # (rows, seeing, seen)
    seen = seen | ((branch == 0).unsqueeze(1) & (branch > 0).unsqueeze(2))
    seen = seen.tril()
    if is_separate:
        among = (passage > 0).unsqueeze(2) & (passage > 0).unsqueeze(1)
        seen = seen & ~(among & (passage.unsqueeze(2) != passage.unsqueeze(1)))
    if hidden is not None:
        seen = seen & ~_hidden(table, hidden)
    return seen.unsqueeze(1)


def _hidden(table: Table, hidden: NDArray[np.bool_]) -> Tensor:
    """`(rows, seeing, seen)`: where a branch must not look."""
    marked = torch.from_numpy(hidden).to(table.ids.device)
    rows = torch.arange(len(hidden), device=table.ids.device).unsqueeze(1)
    by_branch = marked[rows, table.branch.clamp(min=0)]  # (rows, tokens, passages)
    index = table.passage.unsqueeze(1).expand(-1, table.ids.shape[1], -1)
    return by_branch.gather(2, index)
