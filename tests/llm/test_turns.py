"""The lock of `LLM`: in order, of one process, and whole after an interrupt at any moment."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time

import pytest

from chunkwise.errors import ChunkwiseError
from chunkwise.llm.turns import TurnLock


def is_free(lock: TurnLock) -> bool:
    """Whether another thread gets it within a second."""
    got = threading.Event()

    def take() -> None:
        with lock:
            got.set()

    threading.Thread(target=take, daemon=True).start()
    return got.wait(1)


def test_it_is_handed_over_in_order() -> None:
    lock, order = TurnLock(), []

    def work(name: int) -> None:
        with lock:
            order.append(name)

    with lock:
        threads = [threading.Thread(target=work, args=(name,)) for name in range(5)]
        for thread in threads:
            thread.start()
            time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_who_takes_it_in_a_loop_keeps_nobody_out() -> None:
    lock, turns, stop = TurnLock(), 0, threading.Event()

    def step() -> None:
        while not stop.is_set():
            with lock:
                time.sleep(0.002)

    loop = threading.Thread(target=step)
    loop.start()
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        with lock:
            turns += 1
    stop.set()
    loop.join()
    assert turns > 20, "about 140 turns each when they alternate"


def test_an_interrupt_at_any_moment_leaves_it_usable() -> None:
    lock, stop = TurnLock(), threading.Event()
    random.seed(0)

    def other() -> None:
        while not stop.is_set():
            with lock:
                pass
            time.sleep(0)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    thread = threading.Thread(target=other, daemon=True)
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupts, until = 0, time.monotonic() + 1.0
    thread.start()
    try:
        while time.monotonic() < until:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.random() * 2e-4 + 1e-6)
                while True:
                    with lock:
                        pass
            except KeyboardInterrupt:
                interrupts += 1
            assert not lock.is_mine()
            if interrupts % 20 == 0:
                assert is_free(lock)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        stop.set()
    assert interrupts > 100
    assert is_free(lock)
    thread.join(1)
    assert not thread.is_alive()


def test_a_waiter_that_is_interrupted_leaves_the_line() -> None:
    lock, hold = TurnLock(), threading.Event()
    held = threading.Event()

    def keep() -> None:
        with lock:
            held.set()
            hold.wait(5)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    thread = threading.Thread(target=keep)
    thread.start()
    held.wait(5)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt), lock:
            pytest.fail("it is held by another thread")
    finally:
        signal.signal(signal.SIGALRM, before)
    hold.set()
    thread.join()
    assert is_free(lock)


def test_it_is_not_reentrant_and_says_whose_it_is() -> None:
    lock = TurnLock()
    with lock:
        assert lock.is_mine()
        with pytest.raises(ChunkwiseError, match="in the middle of a step"), lock:
            pytest.fail("entered twice")
        assert lock.is_mine()
    assert not lock.is_mine()
    assert is_free(lock)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_is_told_so() -> None:
    lock = TurnLock()
    child = os.fork()
    if not child:
        with contextlib.suppress(ChunkwiseError), lock:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
