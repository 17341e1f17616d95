"""`AsyncLLM`: the same language model for asyncio; a thin face over one thread that steps."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from types import TracebackType
from typing import NamedTuple

from chunkwise.errors import ChunkwiseError, RequestError
from chunkwise.llm.local import LLM, AnyPrompt
from chunkwise.llm.outputs import Output, Update
from chunkwise.types import SamplingParams

__all__ = ["AsyncLLM"]


logger = logging.getLogger(__name__)


class _Reader(NamedTuple):
    """The coroutine that reads a request's updates."""

    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[Update | BaseException]


_IDLE_S, _REST_S = 0.01, 0.2


class AsyncLLM:
    """Serves many coroutines with one model.

    Requests of all coroutines share the steps, which run in one thread of their own. A coroutine
    that is cancelled, or stops iterating, cancels its request. Close it, or use `async with`.

    Args:
        llm: The model. Others may use it directly at the same time.
    """

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self._readers: dict[str, _Reader] = {}
        self._changed = threading.Condition()
        self._is_closed = False
        self._threads = [
            threading.Thread(target=work, name=f"chunkwise-{name}", daemon=True)
            for name, work in (("engine", self._work), ("background", self._rest))
        ]
        for thread in self._threads:
            thread.start()

    async def updates(
        self,
        prompt: AnyPrompt,
        sampling: SamplingParams | None = None,
        *,
        priority: int = 0,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Update | Output]:
        """Updates as they come, and last the whole `Output`.

        Args:
            prompt: What to complete.
            sampling: How.
            priority: Lower goes first.
            timeout_s: Ends the request after this time, finished or not.

        Raises:
            RequestError: It cannot be answered as asked.
            ChunkwiseError: The model is closed.
        """
        params = sampling or SamplingParams()
        request_id, reader = await self._start(prompt, params, priority, timeout_s)
        going = params.n
        try:
            while going:
                item = await reader.queue.get()
                if isinstance(item, BaseException):
                    raise item
                going -= item.finish_reason is not None
                yield item
        finally:
            output = await asyncio.shield(asyncio.to_thread(self._end, request_id))
        yield output

    async def generate(self, prompt: AnyPrompt, sampling: SamplingParams | None = None) -> Output:
        """The whole output of one prompt.

        Raises:
            RequestError: It cannot be answered as asked.
            ChunkwiseError: The model is closed.
        """
        async for item in self.updates(prompt, sampling):
            if isinstance(item, Output):
                return item
        raise RequestError("The request ended without an output.")

    def close(self) -> None:
        """Stop the threads; requests that still run fail."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    async def __aenter__(self) -> AsyncLLM:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.close)

    async def _start(
        self, prompt: AnyPrompt, sampling: SamplingParams, priority: int, timeout_s: float | None
    ) -> tuple[str, _Reader]:
        """Take a request in a thread: a step may be running, and the loop must not wait for it."""
        reader = _Reader(asyncio.get_running_loop(), asyncio.Queue())

        def add() -> str:
            request_id = self.llm.add(prompt, sampling, priority=priority, timeout_s=timeout_s)
            with self._changed:
                if not self._is_closed:
                    self._readers[request_id] = reader
                    self._changed.notify_all()
                    return request_id
            self.llm.close_request(request_id)
            raise ChunkwiseError("This model has been closed.")

        adding = asyncio.ensure_future(asyncio.to_thread(add))
        try:
            return await asyncio.shield(adding), reader
        except asyncio.CancelledError:
            adding.add_done_callback(self._abandon)
            raise

    def _abandon(self, adding: asyncio.Future[str]) -> None:
        """End a request whose coroutine was cancelled while it was being added."""
        if not adding.cancelled() and adding.exception() is None:
            threading.Thread(target=self._end, args=(adding.result(),)).start()

    def _end(self, request_id: str) -> Output:
        with self._changed:
            del self._readers[request_id]
        return self.llm.close_request(request_id)

    def _work(self) -> None:
        """Step while there are readers; hand each one what is its own."""
        while True:
            with self._changed:
                while not self._readers and not self._is_closed:
                    self._changed.wait()
                if self._is_closed:
                    self._fail(ChunkwiseError("This model has been closed."))
                    return
            try:
                is_idle = not self.llm.step()
            except Exception as exc:  # noqa: BLE001 - handed to every coroutine that waits for it
                is_idle = True
                with self._changed:
                    self._fail(exc)
            with self._changed:
                self._hand_out()
                if is_idle:  # the last readers have all they will get and are about to leave
                    self._changed.wait(_IDLE_S)

    def _rest(self) -> None:
        """While there are no readers, do what nobody waits for, a little at a time."""
        while not self._is_closed:
            try:
                is_done = not self._readers and self.llm.background()
            except Exception:  # it concerns nobody's request
                logger.exception("work in the background failed")
                is_done = False
            with self._changed:
                if not is_done and not self._is_closed:
                    self._changed.wait(_REST_S)

    def _hand_out(self) -> None:
        """Called with the readers locked: whoever ends a request has left them before."""
        for request_id, reader in self._readers.items():
            for update in self.llm.ready(request_id):
                _send(reader, update)

    def _fail(self, error: BaseException) -> None:
        for reader in self._readers.values():
            _send(reader, error)


def _send(reader: _Reader, item: Update | BaseException) -> None:
    """Hand over across threads; a loop that is closed has nobody waiting."""
    if not reader.loop.is_closed():
        reader.loop.call_soon_threadsafe(reader.queue.put_nowait, item)
