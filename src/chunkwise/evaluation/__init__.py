"""Evaluation: how good are the chunks, the sentences, the hits and the answers."""

from chunkwise.evaluation.base import Report, compare
from chunkwise.evaluation.bootstrap import Interval, paired_bootstrap

__all__ = ["Interval", "Report", "compare", "paired_bootstrap"]
