"""A local model reads chunks before anybody asks: the first answer is as quick as later ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from chunkwise.errors import ConfigError
from chunkwise.pipeline.parts import Parts
from chunkwise.pipeline.reports import Progress
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
        left: Chunks that were not read, because there is no room for more.
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
    computed = left = 0
    for step in _steps(llm, store, documents, _TOGETHER):
        computed, left = computed + step.computed, step.total - step.done
        if progress is not None:
            progress(Progress(step.done, step.total, step.document))
    return Warmed(computed, left)


class IdleWarming:
    """Lets a local model that is loaded read chunks while nobody asks: `with` it, wait.

    A thread computes a chunk at a time until the block is left; the next block goes on there. It
    computes nothing once all chunks were looked at, or there is no room for more.

    Attributes:
        progress: How far it is; None: it has not begun.
    """

    def __init__(self, parts: Parts, store: Store) -> None:
        self.parts, self.store = parts, store
        self.progress: Progress | None = None
        self._steps: Iterator[_Step] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> IdleWarming:
        if self._steps is None and self.parts.is_reusing:
            llm, documents = reusing_model(self.parts), self.store.documents()
            if llm.engine.reuse is not None and llm.engine.reuse.store.disk is not None:
                self._steps = _steps(llm, self.store, documents, 1)
        if self._steps is not None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="chunkwise-warming", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the chunk that is being computed; what went wrong meanwhile is raised."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failed, self._error = self._error, None
        if failed is not None and error is None:
            raise failed

    def _run(self) -> None:
        assert self._steps is not None, "it was begun"
        try:
            while not self._stop.is_set() and (step := next(self._steps, None)) is not None:
                self.progress = Progress(step.done, step.total, step.document)
        except Exception as exc:  # noqa: BLE001 - raised where the block ends
            self._error = exc


class _Step(NamedTuple):
    """What was read in one go.

    Attributes:
        document: Where.
        done: Chunks that were looked at so far.
        total: Chunks of all documents.
        computed: Chunks that were computed just now.
    """

    document: str
    done: int
    total: int
    computed: int


def _steps(
    llm: LLM, store: Store, documents: Sequence[DocumentInfo], together: int
) -> Iterator[_Step]:
    """Read chunks, some at a time, until there is no more room."""
    total, done = sum(info.chunks for info in documents), 0
    for info in documents:
        chunks = store.chunks(info.name)
        for start in range(0, len(chunks), together):
            some = chunks[start : start + together]
            segments = _segments(llm, some, info.name)
            computed = 0
            while missing := _missing(llm, segments):
                if not _fits(llm, missing) or not (new := llm.admit(missing)):
                    yield _Step(info.name, done, total, computed)
                    return
                computed += new
            done += len(some)
            yield _Step(info.name, done, total, computed)


def _missing(llm: LLM, segments: Sequence[TokenSegment]) -> list[TokenSegment]:
    """Chunks that are in neither tier."""
    reuse = llm.engine.reuse
    assert reuse is not None, "it keeps chunks"
    with llm.exclusive:
        return [
            chunk
            for chunk in segments
            if reuse.store.where(str(chunk.content_id), np.array(chunk.token_ids, np.int32))
            == "none"
        ]


def reusing_model(parts: Parts) -> LLM:
    """The local model, which is set to reuse chunks; if that waits for a self-test, it is run.

    Raises:
        ConfigError: There is none, `reuse` is not set, or the model has a sliding window.
    """
    from chunkwise.llm.local import LLM

    if not parts.settings.reuse:
        raise ConfigError(
            "Chunks are kept where `reuse` is set only: `--set reuse=combined`, for example."
        )
    model = parts.model
    if not isinstance(model, LLM):
        raise ConfigError("Chunks are kept by a local model: leave `base_url` out.")
    if parts.reusing is None:
        raise ConfigError("Chunks are not kept with this model: it has a sliding window.")
    if parts.reusing.is_untested:
        parts.reusing.settle()
    return model


def _fits(llm: LLM, missing: Sequence[TokenSegment]) -> bool:
    """Whether chunks can be kept on disk and no other has to go for them."""
    reuse, token = llm.engine.reuse, llm.engine.pool.shape.bytes_per_token
    if reuse is None or reuse.store.disk is None:
        return True
    size = sum(len(chunk.token_ids) * token + _FRAME_BYTES for chunk in missing)
    with llm.exclusive:
        return size <= reuse.store.disk.free_bytes()


def _segments(llm: LLM, chunks: Sequence[Chunk], name: str) -> list[TokenSegment]:
    """Chunks in tokens, as prompts have them."""
    prompt = answer_prompt("?", [Hit(chunk, 0.0, name) for chunk in chunks])
    return [segment for segment in llm.segments(prompt) if segment.content_id is not None]
