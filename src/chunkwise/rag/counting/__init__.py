"""Token counters: how long a text is, in the tokens of a named tokenizer."""

from chunkwise.rag.counting.base import counters, named_counter

__all__ = ["counters", "named_counter"]
