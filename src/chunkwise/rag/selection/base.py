"""The selector protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chunkwise.registry import Registry
from chunkwise.types import Budget, Hit, Query


class Selector(Protocol):
    """Chooses hits under a budget. Built with the parts it declares (`counter` ...)."""

    def select(self, query: Query, hits: Sequence[Hit], budget: Budget) -> list[Hit]:
        """A subset of `hits`, never over budget, in the order in which they enter the prompt."""
        ...


selectors: Registry[Selector] = Registry("chunkwise.rag.selection", shared=("base", "duplicates"))
