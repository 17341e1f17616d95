"""Token counters: how long a text is, in the tokens of a named tokenizer."""

from chunkwise.rag.counting.base import RememberingCounter, counters, named_counter

__all__ = ["RememberingCounter", "counters", "named_counter"]
