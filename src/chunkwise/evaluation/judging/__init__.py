"""Judging: does a passage support a claim, and what does an answer answer."""

from chunkwise.evaluation.judging.base import Asked, Claim, Judge, judges

__all__ = ["Asked", "Claim", "Judge", "judges"]
