"""Reuse of chunks' KV: which tokens of a reused chunk are computed afresh, one policy a file."""

from chunkwise.llm.reuse.base import Passages, RecomputePolicy, Run, policies

__all__ = ["Passages", "RecomputePolicy", "Run", "policies"]
