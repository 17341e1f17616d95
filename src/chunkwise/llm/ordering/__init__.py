"""Ordering: which of the waiting sequences are admitted next."""

from chunkwise.llm.ordering.base import QueueOrder, orders

__all__ = ["QueueOrder", "orders"]
