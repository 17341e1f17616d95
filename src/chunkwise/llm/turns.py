"""A lock that who steps in a loop cannot keep to himself, and that an interrupt cannot break."""

from __future__ import annotations

import os
import threading
from _thread import RLock

from chunkwise.errors import ChunkwiseError


class TurnLock(RLock):  # type: ignore[misc]  # final in the stubs, not in CPython
    """Mutual exclusion, in the order of asking. Use it with `with`.

    Who holds it is written down by CPython's own lock, whose acquiring and releasing a
    KeyboardInterrupt cannot cut in two; releasing is `RLock.__exit__`, with no Python in between.
    Whoever is next holds `_next` while he waits, so that who has just released must queue.

    Not reentrant, and of the process that made it: a forked child holds a copy of its state, but
    not the threads that would release it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._next = threading.RLock()  # reentrant: a finalizer may run while its thread waits
        self._process = os.getpid()

    def __enter__(self) -> bool:  # type: ignore[override]  # `with` gives no arguments
        self._check()
        try:
            with self._next:
                self.acquire()
        except BaseException:
            if self.is_mine():  # the interrupt came between acquiring and the body
                self.release()
            raise
        return True

    def is_mine(self) -> bool:
        """Whether the thread that asks holds it."""
        return bool(self._is_owned())  # type: ignore[attr-defined]

    def _check(self) -> None:
        if os.getpid() != self._process:
            raise ChunkwiseError(
                "This model was loaded before the process forked and cannot run in the child: "
                "load it in the child, started with the method 'spawn' "
                "(`multiprocessing.get_context`)."
            )
        if self.is_mine():
            raise ChunkwiseError(
                "The model is in the middle of a step of this thread: a signal handler or "
                "finalizer cannot use it."
            )
