"""Batches drawn ahead in other processes, so that a fast device does not wait for them."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from chunkwise.errors import TrainingError
from chunkwise.training.nano.drawing import Drawing, QuestionBatch
from chunkwise.training.nano.reused import ReusedBatch

Batches = list[QuestionBatch | ReusedBatch]
_DEPTH = 4  # steps ahead for each process
_drawing: Drawing  # of a process that draws; set when it begins


class Ahead:
    """Batches of questions, the same as `drawing` gives.

    Args:
        drawing: Draws them; is copied into each process.
        workers: Processes; 0: they are drawn when they are asked for.
    """

    def __init__(self, drawing: Drawing, workers: int) -> None:
        self._drawing, self._workers = drawing, workers
        self._pool: ProcessPoolExecutor | None = None
        self._coming: dict[tuple[int, int], Future[Batches]] = {}

    def get(self, step: int, stage: int, last: int, place: Callable[[int], int]) -> Batches:
        """Batches of a step of a stage; those of steps behind it are begun.

        Args:
            step: The step.
            stage: Its stage.
            last: Steps from here on are not begun: they may not come.
            place: Says the stage of a step, as far as it is known by now.
        """
        if not self._workers:
            return self._drawing.questions(step, stage)
        pool = self._opened()
        wanted = [(n, place(n)) for n in range(step, min(last, step + _DEPTH * self._workers))]
        for key in set(self._coming) - set(wanted):
            self._coming.pop(key).cancel()
        for n, its in wanted:
            if (n, its) not in self._coming and not self._drawing.kind(n, its).is_text:
                self._coming[n, its] = pool.submit(_draw, n, its)
        try:
            return self._coming.pop((step, stage)).result()
        except BrokenProcessPool as exc:
            raise TrainingError(
                "A process that draws batches has died, maybe for want of memory. Go on with "
                "--resume, with fewer `workers`."
            ) from exc

    def close(self) -> None:
        """End the processes; they begin again when batches are asked for."""
        self._coming.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _opened(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._workers,
                multiprocessing.get_context("spawn"),
                _begin,
                self._drawing.parts,
            )
        return self._pool


def _begin(*parts: object) -> None:
    global _drawing
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that trains ends these
    _drawing = Drawing(*parts)  # type: ignore[arg-type]


def _draw(step: int, stage: int) -> Batches:
    return _drawing.questions(step, stage)
