"""Evaluation: how good are the chunks, the hits and the answers."""

from chunkwise.evaluation.base import Interval, Report, compare, paired_bootstrap

__all__ = ["Interval", "Report", "compare", "paired_bootstrap"]
