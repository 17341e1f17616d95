"""The situator protocol, and the form of a chunk, which names all that its vector depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from chunkwise.registry import Registry
from chunkwise.types import Chunk, Document, Embedder, content_id


@dataclass(frozen=True, slots=True)
class Form:
    """What the vector of a chunk is made from.

    Attributes:
        text: The chunk's text, behind what enrichment says of it.
        around: Other texts that the vector depends on; empty: none, and the vector is the
            embedder's of `text`.
        made_by: How the vector depends on `around`: the algorithm and its options.
    """

    text: str
    around: tuple[str, ...] = ()
    made_by: str = ""

    @property
    def key(self) -> str:
        """The content id of all of it: equal forms have one vector."""
        if not self.around:
            return content_id(self.text)
        return content_id("\n".join([self.made_by, *map(content_id, (self.text, *self.around))]))


class Situator(Protocol):
    """Makes vectors of chunks that may depend on their surroundings.

    An implementation is a frozen dataclass; the embedder is offered by whoever builds it. Vectors
    compare with the embedder's vectors of questions.
    """

    @property
    def embedder(self) -> Embedder:
        """Makes the vectors that it starts from."""
        ...

    def forms(
        self, document: Document, chunks: Sequence[Chunk], texts: Sequence[str]
    ) -> list[Form]:
        """The form of each chunk; it holds nothing that its vector does not depend on.

        Args:
            document: Where the chunks stand.
            chunks: All chunks of the document, in order.
            texts: For each chunk its text behind what enrichment says of it.
        """
        ...

    def embed(self, forms: Sequence[Form]) -> NDArray[np.float32]:
        """Unit vectors `(len(forms), dim)` of forms that `forms` gave, of any documents.

        A text that several forms hold is embedded once.
        """
        ...


situators: Registry[Situator] = Registry("chunkwise.rag.situating")
