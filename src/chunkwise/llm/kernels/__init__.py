"""Kernels: the operations of a step, one page of signatures and several implementations."""
