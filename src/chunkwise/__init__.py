"""Chunkwise: retrieval-augmented generation in which the chunk is the unit all the way down."""

__version__ = "0.1.0"
