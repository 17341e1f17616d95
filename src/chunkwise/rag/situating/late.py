"""Late chunking: the encoder reads what stands around a chunk, and the chunk's tokens are pooled.

The window of a chunk is as much of its document as the encoder takes, the chunk in its middle as
far as the document goes; what enrichment says of the chunk stands before the chunk in it.

Source: Guenther et al., Late Chunking (arXiv 2409.04701), and its long form with overlapping
    windows.
Differs: each chunk has the window in which it has most context on both sides, instead of one out of
    windows at fixed distances: so an edit changes the vectors of chunks near to it only. Special
    tokens are pooled with each chunk.
Exact when: the window holds only the chunk: the embedder's vector.
Cost: the encoder reads `window` tokens a chunk; the same window is read once, so a document shorter
    than it costs no more than by itself.
Helps or hurts: with all-MiniLM-L6-v2, against the embedder's vectors (points, 95 % paired
    bootstrap). It helps where a chunk does not say what it is about: 240 questions about ships
    that are named once, in the paragraph before four chunks that say "it": found among the best
    5 by 62.5 % instead of 6.2 %, +56.2 [+49.6, +62.9]; named in the heading: +21.7 [+15.8,
    +27.9], and `headings` +69.6 [+63.7, +75.4]. It hurts where chunks say it: 231 questions on
    three corpora of Chroma's evaluation, recursive chunks of 200 tokens: recall of the best 5
    +0.3 [-3.2, +3.7], recall at 400 tokens -5.3 [-10.3, -0.7].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ConfigError
from chunkwise.rag.situating.base import Form
from chunkwise.types import Chunk, Document, Span

__all__ = ["LateSituator"]

_MADE_BY = "late"
_CHARS = 16  # most characters of context for each token of it
_WORD_TOKENS = 16  # of a word that is left out whole
_TOGETHER = 256  # chunks whose surroundings are tokenised at once: bounds memory


@runtime_checkable
class _StateEmbedder(Protocol):
    dim: int
    max_tokens: int

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]: ...

    def token_spans(self, texts: Sequence[str]) -> list[NDArray[np.int32]]: ...

    def span_vectors(
        self, texts: Sequence[str], spans: Sequence[Sequence[Span]]
    ) -> list[NDArray[np.float32]]: ...


@dataclass(frozen=True, kw_only=True)
class LateSituator:
    """Vectors of chunks as the encoder reads them in their document.

    Attributes:
        embedder: One that gives states of tokens in their context, such as the `encoder`.
        window: Tokens that are read together, the chunk's included; 0: as many as the encoder
            takes.
    """

    embedder: Any
    window: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.embedder, _StateEmbedder):
            raise ConfigError(
                "`late` needs an embedder with states of tokens in their context, such as "
                f"'encoder'; {type(self.embedder).__name__} has none."
            )
        self.embedder.span_vectors([], [])  # refuses where it pools no tokens
        most = self.embedder.max_tokens
        if type(self.window) is not int or not 0 <= self.window <= most:
            raise ConfigError(
                f"`window` must be a whole number in [1, {most}], what the encoder takes, or 0 for "
                f"{most}; got {self.window!r}."
            )

    def forms(
        self, document: Document, chunks: Sequence[Chunk], texts: Sequence[str]
    ) -> list[Form]:
        """See `Situator`. `around`: what is read before and behind the text."""
        found: list[Form] = []
        for first in range(0, len(chunks), _TOGETHER):
            some = slice(first, first + _TOGETHER)
            around = self._around(document.text, chunks[some], texts[some])
            for text, (before, behind) in zip(texts[some], around, strict=True):
                is_alone = not (before or behind)
                found.append(Form(text) if is_alone else Form(text, (before, behind), _MADE_BY))
        return found

    def embed(self, forms: Sequence[Form]) -> NDArray[np.float32]:
        """See `Situator`."""
        vectors = np.empty((len(forms), self.embedder.dim), dtype=np.float32)
        alone = [at for at, form in enumerate(forms) if not form.around]
        vectors[alone] = self.embedder.embed([forms[at].text for at in alone])
        windows: dict[str, list[tuple[int, Span]]] = {}
        for at, form in enumerate(forms):
            if form.around:
                before, behind = form.around
                span = Span(len(before), len(before) + len(form.text))
                windows.setdefault(f"{before}{form.text}{behind}", []).append((at, span))
        spans = [[span for _, span in pooled] for pooled in windows.values()]
        made = self.embedder.span_vectors(list(windows), spans)
        for pooled, rows in zip(windows.values(), made, strict=True):
            vectors[[at for at, _ in pooled]] = rows
        return vectors

    def _around(
        self, text: str, chunks: Sequence[Chunk], texts: Sequence[str]
    ) -> Iterator[tuple[str, str]]:
        """What is read before and behind each chunk; both empty where there is no room."""
        window = self.window or self.embedder.max_tokens
        reach = _CHARS * window
        befores = [text[max(chunk.span.start - reach, 0) : chunk.span.start] for chunk in chunks]
        behinds = [text[chunk.span.end : chunk.span.end + reach] for chunk in chunks]
        tokens = iter(self.embedder.token_spans([*befores, *behinds, *texts]))
        heads, tails = ([next(tokens) for _ in chunks] for _ in range(2))
        for before, behind, head, tail, own in zip(
            befores, behinds, heads, tails, tokens, strict=True
        ):
            room = max(window - len(own), 0)
            num_head = min(len(head), max(room // 2, room - len(tail)))
            num_tail = min(len(tail), room - num_head)
            starts = [*head[len(head) - num_head :, 0].tolist(), len(before)]
            ends = [*tail[:num_tail, 1][::-1].tolist(), 0]
            left = self._kept(before, [(at, slice(at, None)) for at in starts])
            yield left, self._kept(behind, [(at, slice(at)) for at in ends])

    def _kept(self, text: str, parts: Sequence[tuple[int, slice]]) -> str:
        """What is read of the text beside a chunk: the first part whose edge is one of a word, as a
        part of a word may have more tokens by itself than in it. If none is near, as in languages
        without spaces, the first that, counted again, has no more tokens.

        Args:
            text: All of it.
            parts: Edge and place of parts, each a token shorter than the one before, down to none.
        """
        for at, part in parts[:-1][:_WORD_TOKENS]:
            if at in (0, len(text)) or text[at - 1].isspace() or text[at].isspace():
                return text[part]
        found = (text[part] for _, part in parts)
        return next(t for t in found if len(self.embedder.token_spans([t])[0]) < len(parts))
