"""Is the first query after a crash as fast as the last one before it?

    python benchmarks/restart.py [--shape qwen2.5-0.5b] [--chunks 32] [--rounds 5]

Question. A process stores the chunks of a corpus, answers prompts over them (8 chunks of 256
tokens in random order, a question of 64) and is killed with SIGKILL; a new one starts over the same
folder. Time to the first token of its first prompt over stored chunks: with nothing warmed up
(`first_bare_ms`), and behind one prompt without chunks (`first_ms`). Against prompts before a kill,
over chunks in memory (`before_ms`), and in the same processes prompts without chunks, which are
computed in full (`full_ms`, and `full_bare_ms` where that is the first thing a process does). Each
round is a new process, killed in its turn behind `before_ms`; `first_over_before` is the median of
the ratios within a process, so that load from elsewhere hits both alike.

Once more while chunks are being written: the process is killed when a file is half written. What
the next one finds is counted: whole files, bad ones, chunks it had to compute.

Correctness, in every process: logits over the chunks equal those before the first kill bit by bit,
so no bad entry was used.

It does not tell: a loss of power (the page cache survives a kill), a cold disk, or how long a start
takes until the first prompt (`memory.py`; `ready_s` is told).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _corpus import CHUNK, PER_PROMPT, PROMPT, Corpus, Pieces
from _floor import Shape
from _machine import checkpoint, machine
from _peers.engines import start
from _peers.worker import Worker
from chunkwise.llm.kv.disk import verify

KV_MB, TRIES, REPEATS = 512, 8, 3
GOAL = 1.1  # times the time before


@dataclass
class Found:
    """What all rounds gave.

    Attributes:
        times: Seconds of each kind of query.
        ratios: First query over the last ones of the same process, by kind.
        compared: Prompts whose logits were equal.
    """

    times: dict[str, list[float]] = field(default_factory=dict)
    ratios: dict[str, list[float]] = field(default_factory=dict)
    compared: int = 0

    def add(self, kind: str, seconds: float) -> None:
        self.times.setdefault(kind, []).append(seconds)


class Runs:
    """Processes over one folder, one after the other.

    Args:
        given: The settings.
        model: The checkpoint.
        folder: Where chunks are kept.
    """

    def __init__(self, given: argparse.Namespace, model: Path, folder: Path) -> None:
        self.given, self.model, self.folder = given, model, folder
        self.corpus = Corpus(given.chunks)
        parts = range(0, given.chunks, PER_PROMPT)
        self.probes = [self.corpus.prompt(self.corpus.chunks[i : i + PER_PROMPT]) for i in parts]

    def start(self) -> Worker:
        size = self.given.chunks * CHUNK * Shape.of(self.model).kv_bytes(1) / 2**20
        settings = {
            "threads": self.given.threads,
            "quantize": "none",
            "kv_mb": KV_MB,
            "policy": {"name": "combined", "ratio": self.given.ratio},
            "anchor": self.corpus.anchor,
            "memory_mb": int(1.2 * size) + 1,
            "folder": str(self.folder),
            "disk_mb": int(1.2 * size) + 1,
        }
        (worker,) = start("reuse", self.model, {}, settings)
        return worker

    def store(self, worker: Worker) -> int:
        """Store all chunks, one by one; how many had to be computed."""
        return int(worker.run([self.corpus.chunks], 1, until="stored")["computed"])

    def logits(self, worker: Worker) -> list[list[float]]:
        """Over all chunks."""
        return [worker.logits(pieces) for pieces in self.probes]

    def stored(self) -> Pieces:
        """A prompt over stored chunks."""
        return self.corpus.prompt()

    def full(self) -> Pieces:
        """A prompt without chunks."""
        return self.corpus.prompt(self.corpus.unseen())


def main() -> None:
    given = arguments()
    with tempfile.TemporaryDirectory() as name, checkpoint(given.shape, given.folder) as model:
        found = Found()
        runs = Runs(given, model, Path(name) / "chunks")
        wanted = before(runs, found)
        ready = [after(runs, found, wanted, number) for number in range(2 * given.rounds)]
        torn = killed_writing(Runs(given, model, Path(name) / "torn"), found, wanted)
    report = told(given, found, torn) | {"ready_s": round(statistics.median(ready), 2)}
    print(json.dumps(report))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", default="qwen2.5-0.5b", help="see `models fake`")
    parser.add_argument("--folder", type=Path, help="a checkpoint instead of a random one")
    parser.add_argument("--chunks", type=int, default=4 * PER_PROMPT)
    parser.add_argument("--rounds", type=int, default=5, help="of each kind of first query")
    parser.add_argument("--ratio", type=float, default=0.15)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def first_token(worker: Worker, pieces: Pieces) -> float:
    """Seconds to the first token; chunks of the prompt must be stored."""
    found = worker.run([pieces], 1)
    assert found["computed"] == 0, "a stored chunk was computed again"
    has_chunks = any(piece.content_id for piece in pieces)
    assert bool(found["usage"][0].get("reused_tokens")) == has_chunks
    return float(found["times"][0][0])


def before(runs: Runs, found: Found) -> list[list[float]]:
    """Store all chunks and query them; the logits, and the process is killed."""
    worker = runs.start()
    worker.ready()
    computed = runs.store(worker)
    assert computed == runs.given.chunks, f"{computed} chunks computed"
    wanted = runs.logits(worker)
    last_queries(runs, worker, found)
    worker.kill()
    return wanted


def last_queries(runs: Runs, worker: Worker, found: Found) -> float:
    """Time queries over chunks in memory, and prompts computed in full; the first kind's median."""
    some = []
    for _ in range(REPEATS):
        found.add("full", first_token(worker, runs.full()))
        some.append(first_token(worker, runs.stored()))
        found.add("before", some[-1])
    return statistics.median(some)


def after(runs: Runs, found: Found, wanted: list[list[float]], number: int) -> float:
    """A new process over the same folder; seconds until it is ready, and it is killed.

    Its first query is over stored chunks, or (odd numbers) a prompt without any.
    """
    worker = runs.start()
    ready = float(worker.ready()["load_s"])
    if number % 2:
        found.add("full_bare", first_token(worker, runs.full()))
    kind = "first" if number % 2 else "first_bare"
    took = first_token(worker, runs.stored())
    found.add(kind, took)
    compare(runs, worker, found, wanted)  # all chunks are in memory behind it
    found.ratios.setdefault(kind, []).append(took / last_queries(runs, worker, found))
    worker.kill()
    return ready


def compare(runs: Runs, worker: Worker, found: Found, wanted: list[list[float]]) -> None:
    """All logits are those of before, bit by bit."""
    for mine, others in zip(runs.logits(worker), wanted, strict=True):
        differ = max(abs(a - b) for a, b in zip(mine, others, strict=True))
        assert mine == others, f"logits differ by {differ} from those before the kill"
        found.compared += 1


def killed_writing(runs: Runs, found: Found, wanted: list[list[float]]) -> dict[str, int]:
    """Kill a process that writes chunks, until a file is left half written, and start another."""
    tries, parts = 0, 0
    while not parts and tries < TRIES:
        tries += 1
        for path in runs.folder.glob("*/*.kv"):
            path.unlink()
        worker = runs.start()
        worker.ready()
        is_done = threading.Event()
        killer = threading.Thread(target=kill_writing, args=(worker, runs, is_done))
        killer.start()
        with contextlib.suppress(RuntimeError):  # it ended
            runs.store(worker)
        is_done.set()
        killer.join()
        assert worker.exit_code() == -signal.SIGKILL, worker.exit_code()
        parts = len(list(runs.folder.glob("*/*.part")))
    left = len(list(runs.folder.glob("*/*.kv")))
    whole, bad = verify(runs.folder)
    worker = runs.start()
    worker.ready()
    computed = runs.store(worker)
    assert computed == runs.given.chunks - whole, f"{computed} computed, {whole} were whole"
    compare(runs, worker, found, wanted)
    worker.quit()
    return {
        "tries": tries,
        "half_written": parts,
        "files_left": left,
        "whole": whole,
        "bad": len(bad),
        "computed_again": computed,
    }


def kill_writing(worker: Worker, runs: Runs, is_done: threading.Event) -> None:
    """Kill it at the next sight of a half-written file once half of the chunks are there."""
    while not is_done.is_set():
        names = [name for _, _, files in os.walk(runs.folder) for name in files]
        written = sum(name.endswith(".kv") for name in names)
        if written >= runs.given.chunks // 2 and len(names) > written:
            break
    worker.kill()


def told(given: argparse.Namespace, found: Found, torn: dict[str, int]) -> dict[str, Any]:
    """The report, printed as a table too."""
    medians = {f"{kind}_ms": ms(some) for kind, some in found.times.items()}
    ranges = {f"{kind}_ms": [ms([min(s)]), ms([max(s)])] for kind, s in found.times.items()}
    for kind, median in medians.items():
        print(f"{kind:14} {median:9.1f}  {ranges[kind]}")
    ratios = {kind: statistics.median(some) for kind, some in found.ratios.items()}
    print(ratios, torn, sep="\n", flush=True)
    return {
        "benchmark": "restart",
        **machine(),
        "threads": given.threads,
        "load": os.getloadavg()[0],
        "shape": str(given.folder or given.shape),
        "chunks": given.chunks,
        "prompt_tokens": PROMPT,
        "ratio": given.ratio,
        **medians,
        "ranges": ranges,
        **{f"{kind}_over_before": round(ratio, 3) for kind, ratio in ratios.items()},
        "full_over_first_bare": round(medians["full_bare_ms"] / medians["first_bare_ms"], 2),
        "logits_equal": found.compared,
        "killed_writing": torn,
        "is_met": {kind: ratio <= GOAL for kind, ratio in ratios.items()},
    }


def ms(seconds: list[float]) -> float:
    return round(1e3 * statistics.median(seconds), 1)


if __name__ == "__main__":
    main()
