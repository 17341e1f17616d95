"""Approximate search with usearch: one graph file beside each vector file.

Derived data: it may be deleted at any time. Vector files only grow, so a graph over their first
rows stays right; rows behind it are searched exactly by the caller.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import MissingDependencyError, StoreError

try:
    from usearch.index import Index
except ImportError as exc:
    raise MissingDependencyError(
        'Approximate search needs usearch: `pip install "chunkwise[ann]"`.'
    ) from exc

_SUFFIX = ".usearch"
_MIN_EXPANSION = 128  # candidates that a search keeps


def graph_of(vectors: Path) -> Path:
    """Where the graph of a vector file is kept."""
    return vectors.with_suffix(_SUFFIX)


def build(vectors: Path, array: NDArray[np.float32]) -> None:
    """Write the graph over the rows of a vector file, in place of an older one."""
    index = Index(ndim=array.shape[1], metric="ip", dtype="f16", connectivity=16)
    # One thread: with more, the graph differs from run to run and may leave a row out of reach.
    index.add(np.arange(len(array), dtype=np.uint64), array, threads=1)
    unfinished = vectors.with_suffix(f"{_SUFFIX}.{os.getpid()}")
    index.save(str(unfinished))
    unfinished.replace(graph_of(vectors))


class Graph:
    """An open graph.

    Args:
        vectors: The vector file it belongs to.
    """

    def __init__(self, vectors: Path) -> None:
        file = graph_of(vectors)
        index = Index.restore(str(file), view=True)
        if index is None:
            raise StoreError(f"{file} is no graph of usearch; delete it and build it again.")
        self._index: Any = index  # its stubs do not know `expansion_search`

    def __len__(self) -> int:
        return len(self._index)

    def search(self, vector: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """At most `k` rows, probably the nearest ones."""
        self._index.expansion_search = max(_MIN_EXPANSION, 2 * k)
        return np.asarray(self._index.search(vector, k).keys, dtype=np.int64)
