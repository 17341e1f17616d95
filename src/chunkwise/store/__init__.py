"""One corpus on disk: documents, chunks, postings and vectors in one folder."""

from chunkwise.store.corpus import Store
from chunkwise.store.values import Changes, DocumentInfo, Prepared, Problem, Stats

__all__ = ["Changes", "DocumentInfo", "Prepared", "Problem", "Stats", "Store"]
