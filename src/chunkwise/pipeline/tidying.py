"""What is cleared away after documents have changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chunkwise.store import Store

_MIN_DEAD_VECTORS = 1000  # fewer are not worth rewriting a file


def tidy(store: Store, chunk_folder: Path, recipes: Sequence[Path]) -> None:
    """Rewrite vector files when many of their rows are dead; drop what a model has kept of chunks
    that are in no document any more.

    Args:
        store: The corpus.
        chunk_folder: Where a model keeps its chunks, if it does.
        recipes: Folders of corpora derived from it, whose chunks are kept there too.
    """
    stats = store.stats()
    if stats.dead_vectors > max(_MIN_DEAD_VECTORS, stats.vectors // 2):
        store.compact()
    if chunk_folder.is_dir():
        from chunkwise.llm.kv.disk import drop_others

        drop_others(chunk_folder, _chunks(store, recipes))


def _chunks(store: Store, recipes: Sequence[Path]) -> set[str]:
    found = set(store.content_ids())
    for folder in recipes:
        with Store.open(folder) as other:
            found.update(other.content_ids())
    return found
