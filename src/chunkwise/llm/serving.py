"""Requests of several threads over one engine: whoever waits for tokens runs the next step."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from chunkwise.errors import RequestError
from chunkwise.llm.batching import Batch
from chunkwise.llm.engine import Engine
from chunkwise.llm.outputs import Output, Update, refused_output
from chunkwise.llm.sequence import Request
from chunkwise.llm.turns import TurnLock


class Serving:
    """Gives each request what the engine's steps yield for it. Safe to use from several threads.

    Attributes:
        engine: What runs the requests of all.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._lock = TurnLock()
        self._boxes: dict[str, deque[Update]] = {}
        self._abandoned: deque[str] = deque()

    def run(self, taken: list[Request | Output]) -> list[Output]:
        """Run requests together; an output stands for one that was refused.

        Raises:
            RequestError: The only one cannot be answered as asked.
        """
        requests = [one for one in taken if isinstance(one, Request)]
        refused: dict[str, Output] = {}
        try:
            for request in requests:
                try:
                    self._add(request)
                except RequestError as exc:
                    if len(taken) == 1:
                        raise
                    refused[request.id] = refused_output(str(exc))
            found = refused | {r.id: self._finished(r.id) for r in requests if r.id not in refused}
            return [one if isinstance(one, Output) else found[one.id] for one in taken]
        finally:  # an interrupt must not leave requests behind
            for request in requests:
                self._closed(request.id)
            self._forget(requests)

    def run_batch(
        self, requests: Iterable[tuple[int, Request]], prepare: Callable[[list[Request]], object]
    ) -> Iterator[tuple[int, Output]]:
        """Run a job of many requests, as many at a time as memory has room for.

        Args:
            requests: With the indices of their prompts.
            prepare: Called with some of them just before they are sent.

        Yields:
            Index and output as they finish; a request that is refused has one too.
        """
        pool, reuse = self.engine.pool, self.engine.reuse
        is_reusing = reuse is not None and not reuse.audit.is_refused
        room = reuse.store.budget_bytes if reuse is not None and is_reusing else 0
        chunk_tokens = room // pool.shape.bytes_per_token
        batch = Batch(requests, self.engine.max_tokens, pool.max_tokens, chunk_tokens)
        sent: list[Request] = []
        try:
            while (sent := batch.send()) or batch.in_flight:
                prepare(sent)
                for request in sent:
                    try:
                        self._add(request)
                    except RequestError as exc:
                        yield batch.done(request.id, refused_output(str(exc)))
                self.step()
                for request_id in self._done(batch.in_flight):
                    yield batch.done(request_id, self.close_request(request_id))
        finally:  # an interrupt must not leave requests behind
            for request_id in batch.in_flight:
                self._closed(request_id)
            self._forget(sent)

    def updates(self, request_id: str) -> Iterator[Update]:
        """Updates of a request as they come, until all its completions have ended or another
        thread closes it.

        Raises:
            RequestError: There is no such request.
        """
        self._box(request_id)
        is_finished = False
        while not is_finished:
            with self._lock:
                if (box := self._boxes.get(request_id)) is None:
                    return
                while not box and not self.engine.is_finished(request_id):
                    self._step()
                ready = _emptied(box)
                is_finished = self.engine.is_finished(request_id)
            yield from ready

    def ready(self, request_id: str) -> list[Update]:
        """Updates of a request that are there already; for whoever calls `step` himself."""
        with self._lock:
            return _emptied(self._box(request_id))

    def close_request(self, request_id: str) -> Output:
        """End a request, if it still runs, and forget it. What it computed may serve others.

        Raises:
            RequestError: There is no such request.
        """
        with self._lock:
            self._box(request_id)
            return self._close(request_id)

    def step(self) -> bool:
        """Run one step for all requests; False if there was nothing to do."""
        with self._lock:
            if not self.engine.has_work():
                return False
            self._step()
            return True

    @property
    def exclusive(self) -> TurnLock:
        """While it is held (`with`), no step runs and nothing of the engine changes."""
        return self._lock

    def forget_prefixes(self) -> None:
        """Let no later prompt find a cached prefix of earlier ones; chunks stay."""
        with self._lock:
            self.engine.pool.clear()

    def _add(self, request: Request) -> str:
        with self._lock:
            self._boxes[request.id] = deque()
            try:
                self.engine.add(request)
            except BaseException:
                del self._boxes[request.id]
                self.engine.cancel(request.id)  # an interrupt may come when it is in already
                self._forget([request])
                raise
        return request.id

    def _expect(self, requests: Iterable[Request]) -> list[Request]:
        """Those of requests, which follow, that reuse chunks: their chunks begin to load, and stay
        until they run."""
        reuse = self.engine.reuse
        if reuse is None or reuse.audit.is_refused:
            return []
        reusing = [request for request in requests if not request.is_exact]
        with self._lock:
            reuse.expect(reusing)
        return reusing

    def _forget(self, requests: Iterable[Request]) -> None:
        """Expect nothing of requests that do not run."""
        reuse = self.engine.reuse
        if reuse is None:
            return
        with contextlib.nullcontext() if self._lock.is_mine() else self._lock:
            for request in requests:
                reuse.forget(request)

    def _box(self, request_id: str) -> deque[Update]:
        if (box := self._boxes.get(request_id)) is None:
            raise RequestError(f"There is no request {request_id!r}: it was closed, or not added.")
        return box

    def _run_one(self, request: Request) -> Output:
        """The output of a request whose error is the caller's."""
        output = self.run([request])[0]
        if error := output.completions[0].error:
            raise RequestError(error)
        return output

    def _done(self, request_ids: Iterable[str]) -> list[str]:
        with self._lock:
            return [one for one in request_ids if self.engine.is_finished(one)]

    def _finished(self, request_id: str) -> Output:
        """The output of a request once it is done."""
        deque(self.updates(request_id), maxlen=0)
        return self.close_request(request_id)

    def _closed(self, request_id: str) -> Output | None:
        """Close a request, if that has not been done.

        A stream that nobody holds any more may be collected in the middle of a step; then the
        next step closes its request.
        """
        if self._lock.is_mine():
            self._abandoned.append(request_id)
            return None
        with self._lock:
            return self._close(request_id) if request_id in self._boxes else None

    def _close(self, request_id: str) -> Output:
        self.engine.cancel(request_id)
        del self._boxes[request_id]
        return self.engine.output(request_id)

    def _step(self) -> None:
        while self._abandoned:
            request_id = self._abandoned.popleft()
            if request_id in self._boxes:
                self._close(request_id)
        for update in self.engine.step():
            if (box := self._boxes.get(update.request_id)) is not None:
                box.append(update)


def _emptied(box: deque[Update]) -> list[Update]:
    found = list(box)
    box.clear()
    return found
