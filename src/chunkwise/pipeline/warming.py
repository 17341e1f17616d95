"""A local model reads chunks before anybody asks: the first answer is as quick as later ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from chunkwise.errors import ConfigError
from chunkwise.pipeline.ingest import Progress
from chunkwise.pipeline.parts import Parts
from chunkwise.prompting import answer_prompt
from chunkwise.store import DocumentInfo, Store
from chunkwise.types import Chunk, Hit

if TYPE_CHECKING:
    from chunkwise.llm.local import LLM
    from chunkwise.llm.sequence import TokenSegment

_FRAME_BYTES = 16_384  # of a file, beside its numbers, at most
_TOGETHER = 16  # chunks; between so many, what was read is on disk


class Warmed(NamedTuple):
    """What was read.

    Attributes:
        computed: Chunks that were computed.
        left: Chunks that were not looked at, because there is no room for more.
    """

    computed: int
    left: int


def warm(
    parts: Parts,
    store: Store,
    documents: Sequence[DocumentInfo],
    progress: Callable[[Progress], None] | None = None,
) -> Warmed:
    """Compute what is missing of the chunks of documents, until the room on disk is used up.

    Raises:
        ConfigError: No local model is set, or `reuse` is not.
    """
    llm = reusing_model(parts)
    if llm.engine.reuse is None:
        raise ConfigError(
            "Chunks are not reused with this model, so none are kept: it failed its self-test "
            "(`chunkwise cache test`). Lower `reuse_agreement`, or choose another policy."
        )
    total, done, computed = sum(info.chunks for info in documents), 0, 0
    for info in documents:
        chunks = store.chunks(info.name)
        for start in range(0, len(chunks), _TOGETHER):
            some = chunks[start : start + _TOGETHER]
            segments = _segments(llm, some, info.name)
            if not _fits(llm, segments):
                return Warmed(computed, total - done)
            computed += llm.admit(segments)
            done += len(some)
            if progress is not None:
                progress(Progress(done, total, info.name))
    return Warmed(computed, 0)


def reusing_model(parts: Parts) -> LLM:
    """The local model, which is set to reuse chunks.

    Raises:
        ConfigError: There is none, or `reuse` is not set.
    """
    from chunkwise.llm.local import LLM

    if not parts.settings.reuse:
        raise ConfigError(
            "Chunks are kept where `reuse` is set only: `--set reuse=combined`, for example."
        )
    model = parts.model
    if not isinstance(model, LLM):
        raise ConfigError("Chunks are kept by a local model: leave `base_url` out.")
    return model


def _fits(llm: LLM, segments: Sequence[TokenSegment]) -> bool:
    """Whether chunks can be kept on disk and no other has to go for them."""
    reuse, token = llm.engine.reuse, llm.engine.pool.shape.bytes_per_token
    if reuse is None or reuse.store.disk is None:
        return True
    missing = reuse.missing(segments, token)
    size = sum(len(chunk.token_ids) * token + _FRAME_BYTES for chunk in missing)
    return size <= reuse.store.disk.free_bytes()


def _segments(llm: LLM, chunks: Sequence[Chunk], name: str) -> list[TokenSegment]:
    """Chunks in tokens, as prompts have them."""
    prompt = answer_prompt("?", [Hit(chunk, 0.0, name) for chunk in chunks])
    return [segment for segment in llm.segments(prompt) if segment.content_id is not None]
