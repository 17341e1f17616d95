"""Each chunk is embedded for itself.

Exact when: always: vectors are the embedder's.
Cost: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chunkwise.rag.situating.base import Form
from chunkwise.types import Chunk, Document, Embedder

__all__ = ["NoSituator"]


@dataclass(frozen=True, kw_only=True)
class NoSituator:
    """Embeds texts as they are.

    Attributes:
        embedder: Makes the vectors.
    """

    embedder: Embedder

    def forms(
        self, document: Document, chunks: Sequence[Chunk], texts: Sequence[str]
    ) -> list[Form]:
        """See `Situator`."""
        return [Form(text) for text in texts]

    def embed(self, forms: Sequence[Form]) -> NDArray[np.float32]:
        """See `Situator`."""
        return self.embedder.embed([form.text for form in forms])
