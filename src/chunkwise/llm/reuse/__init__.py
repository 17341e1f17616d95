"""Reuse of chunks' KV: which tokens of a reused chunk are computed afresh, one policy a file."""

from chunkwise.llm.reuse.base import Evidence, Passages, RecomputePolicy, Run, policies

__all__ = ["Evidence", "Passages", "RecomputePolicy", "Run", "policies"]
