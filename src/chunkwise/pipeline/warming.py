"""A local model reads chunks before anybody asks: the first answer is as quick as later ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from chunkwise.errors import ConfigError
from chunkwise.pipeline.ingest import Progress
from chunkwise.pipeline.parts import Parts
from chunkwise.prompting import answer_prompt
from chunkwise.store import DocumentInfo, Store
from chunkwise.types import Chunk, Hit

if TYPE_CHECKING:
    from chunkwise.llm.local import LLM
    from chunkwise.llm.sequence import TokenSegment

_TOGETHER = 16  # chunks; between so many, what was read is on disk


def warm(
    parts: Parts,
    store: Store,
    documents: Sequence[DocumentInfo],
    progress: Callable[[Progress], None] | None = None,
) -> int:
    """Compute what is missing of the chunks of documents; returns how many chunks that were.

    Raises:
        ConfigError: No local model is set, or `reuse` is not.
    """
    llm = _model(parts)
    total, done, computed = sum(info.chunks for info in documents), 0, 0
    for info in documents:
        chunks = store.chunks(info.name)
        for start in range(0, len(chunks), _TOGETHER):
            some = chunks[start : start + _TOGETHER]
            computed += llm.admit(_segments(llm, some, info.name))
            done += len(some)
            if progress is not None:
                progress(Progress(done, total, info.name))
    return computed


def _model(parts: Parts) -> LLM:
    from chunkwise.llm.local import LLM

    if not parts.settings.reuse:
        raise ConfigError(
            "Chunks are kept where `reuse` is set only: `--set reuse=combined`, for example."
        )
    model = parts.model
    if not isinstance(model, LLM):
        raise ConfigError("Chunks are kept by a local model: leave `base_url` out.")
    return model


def _segments(llm: LLM, chunks: Sequence[Chunk], name: str) -> list[TokenSegment]:
    """Chunks in tokens, as prompts have them."""
    prompt = answer_prompt("?", [Hit(chunk, 0.0, name) for chunk in chunks])
    return [segment for segment in llm.segments(prompt) if segment.content_id is not None]
