"""A lock that is handed over in order: who steps in a loop cannot keep others out."""

from __future__ import annotations

import threading
from collections import deque


class TurnLock:
    """Mutual exclusion, first come first served; not reentrant. Use it with `with`."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._is_held = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._guard:
            if not self._is_held:
                self._is_held = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:
            self._give_up(turn)
            raise

    def __exit__(self, *exc: object) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_held = False

    def _give_up(self, turn: threading.Lock) -> None:
        """Leave the line after an interrupt; a turn that has come meanwhile goes to the next."""
        with self._guard:
            is_waiting = turn in self._waiting
            if is_waiting:
                self._waiting.remove(turn)
        if not is_waiting:
            self._pass_on()
