"""Situating: how far a chunk's vector depends on what stands around it. Its text never does."""

from chunkwise.rag.situating.base import Form, Situator, situators

__all__ = ["Form", "Situator", "situators"]
