"""Chunkwise: retrieval-augmented generation in which the chunk is the unit all the way down.

import chunkwise
corpus = chunkwise.open("my-corpus")
corpus.add("docs/")
print(corpus.ask("What did the battery cost?").text)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "Chunk",
    "ChunkwiseError",
    "Citation",
    "Corpus",
    "Document",
    "Filter",
    "Hit",
    "Query",
    "Settings",
    "Span",
    "open",
]

if TYPE_CHECKING:
    from chunkwise.config import Settings
    from chunkwise.errors import ChunkwiseError
    from chunkwise.pipeline.corpus import Corpus
    from chunkwise.pipeline.corpus import open_corpus as open
    from chunkwise.types import Answer, Chunk, Citation, Document, Filter, Hit, Query, Span

_HOMES = {
    "Settings": "chunkwise.config",
    "ChunkwiseError": "chunkwise.errors",
    "Corpus": "chunkwise.pipeline.corpus",
    "open": "chunkwise.pipeline.corpus:open_corpus",
}


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that `import chunkwise` stays quick."""
    if name not in __all__:
        raise AttributeError(f"module 'chunkwise' has no attribute {name!r}")
    import importlib

    module, _, attribute = _HOMES.get(name, "chunkwise.types").partition(":")
    value = getattr(importlib.import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
