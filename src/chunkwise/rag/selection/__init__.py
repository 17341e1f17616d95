"""Selection: which hits enter the prompt, under a budget."""

from chunkwise.rag.selection.base import Selector, selectors

__all__ = ["Selector", "selectors"]
