"""Scheduling: which sequences compute how many tokens in a step."""

from chunkwise.llm.scheduling.base import SchedulingPolicy, Slice, StepBudget, policies

__all__ = ["SchedulingPolicy", "Slice", "StepBudget", "policies"]
