"""Eviction: which stored chunks leave memory first."""

from chunkwise.llm.eviction.base import EvictionPolicy, Usage, policies

__all__ = ["EvictionPolicy", "Usage", "policies"]
