"""The `QueueOrder` protocol: which of the waiting sequences are admitted next."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Protocol

from chunkwise.llm.sequence import Sequence
from chunkwise.registry import Registry


class QueueOrder(Protocol):
    """Orders; changes nothing. Output that is exact does not depend on it, and nobody starves."""

    def first(
        self, running: Items[Sequence], waiting: Items[Sequence], count: int
    ) -> list[Sequence]:
        """The next `count` of the waiting, in order; all of them if there are fewer.

        The order agrees with `Sequence.rank`: it is free among those of one priority that were
        never admitted. Whoever was, and lost its memory, keeps its place before them.

        Args:
            running: Sequences that hold KV, in order of admission.
            waiting: Sequences that hold none, by `Sequence.urgency`: equals by arrival. There
                may be thousands, and this is asked in every step.
            count: How many could be admitted, at least 1.
        """
        ...


orders: Registry[QueueOrder] = Registry("chunkwise.llm.ordering")
