"""Rows to tensors, and what each token sees.

The masks are where "attended to separately" is defined: a passage sees the start of the prompt
and itself, as when its keys and values were computed alone; a question sees everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
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
        longest = max(len(row.ids) for row in rows)

        def padded(lists: Sequence[list[int]], fill: int) -> Tensor:
            full = [values + [fill] * (longest - len(values)) for values in lists]
            return torch.tensor(full, device=device)

        return cls(
            padded([row.ids for row in rows], 0),
            padded([row.positions for row in rows], 0),
            padded([row.branch for row in rows], -1),
            padded([row.passage for row in rows], 0),
            padded([row.targets for row in rows], NONE),
        )


def sight(
    table: Table, *, hidden: Sequence[Sequence[frozenset[int]]] = (), is_separate: bool = False
) -> Tensor:
    """What each token sees: `(rows, 1, tokens, tokens)`, True for seen.

    Args:
        table: The rows.
        hidden: For each row and question, the passages (from 0) that its branch does not see.
        is_separate: Passages do not see each other.
    """
    branch, passage = table.branch, table.passage
    seen = branch.unsqueeze(1) == branch.unsqueeze(2)  # (rows, seeing, seen)
    seen = seen | ((branch == 0).unsqueeze(1) & (branch > 0).unsqueeze(2))
    seen = seen.tril()
    if is_separate:
        among = (passage > 0).unsqueeze(2) & (passage > 0).unsqueeze(1)
        seen = seen & ~(among & (passage.unsqueeze(2) != passage.unsqueeze(1)))
    if hidden:
        seen = seen & ~_hidden(table, hidden)
    return seen.unsqueeze(1)


def _hidden(table: Table, hidden: Sequence[Sequence[frozenset[int]]]) -> Tensor:
    """`(rows, seeing, seen)`: where a branch must not look."""
    branches = 1 + max(len(row) for row in hidden)
    passages = 1 + int(table.passage.max())
    flags = torch.zeros(len(hidden), branches, passages, dtype=torch.bool)
    for i, row in enumerate(hidden):
        for j, places in enumerate(row, start=1):
            for place in places:
                flags[i, j, place + 1] = True
    flags = flags.to(table.ids.device)
    rows = torch.arange(len(hidden), device=table.ids.device).unsqueeze(1)
    by_branch = flags[rows, table.branch.clamp(min=0)]  # (rows, tokens, passages)
    index = table.passage.unsqueeze(1).expand(-1, table.ids.shape[1], -1)
    return by_branch.gather(2, index)
