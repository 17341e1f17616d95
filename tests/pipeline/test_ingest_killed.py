"""`kill -9` at any moment loses nothing that was committed, and the next run goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chunkwise.rag.embedding.hashing import HashingEmbedder
from chunkwise.store import Store
from chunkwise.types import Filter, Query
from tests.pipeline.folders import write_folder

ROOT = Path(__file__).parents[2]


class Runner:
    """Runs ingests that can be killed; see `killable.py`."""

    def __init__(self) -> None:
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.pipeline.killable"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **threads},
        )

    def run(self, corpus: Path, folder: Path, *, kill_after_s: float | None = None) -> int:
        """Exit code of one run; minus 9 if it was killed."""
        stdin: Any = self.process.stdin
        stdout: Any = self.process.stdout
        stdin.write(f"{corpus}\t{folder}\n")
        stdin.flush()
        child = int(stdout.readline())
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            # The child is a zombie until its parent has waited for it; that may be past.
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return int(stdout.readline())

    def close(self) -> None:
        stdin: Any = self.process.stdin
        stdin.close()
        assert self.process.wait(30) == 0
        stdout: Any = self.process.stdout
        stdout.close()


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    started = Runner()
    yield started
    started.close()


def contents(corpus: Path) -> object:
    """All that a corpus says, times left out."""
    embedder = HashingEmbedder(dim=32)
    with Store.open(corpus) as store:
        documents = [
            (info.name, info.source_hash, store.load(info.name), store.chunks(info.name))
            for info in store.documents()
        ]
        hits = store.hits(dict(store.match('"ferry"', 10**6)), "bm25", store.allowed(Filter()))
        places = [(hit.chunk, round(hit.score, 6), hit.document, hit.copies) for hit in hits]
        missing = store.lacking_vectors(embedder.fingerprint)
        vectors = sum(len(m.array) for m in store.matrices(embedder.fingerprint))
        stats = store.stats()
        assert vectors - stats.dead_vectors == stats.vectors
        return documents, places, missing, stats.vectors


def hashes(corpus: Path) -> dict[str, str]:
    """Hash of each document's source."""
    if not Store.exists(corpus):
        return {}
    with Store.open(corpus) as store:
        return {info.name: info.source_hash for info in store.documents()}


def check_what_was_committed(corpus: Path, folders: list[Path]) -> None:
    """Every document there is complete, and of one of the folders."""
    if not Store.exists(corpus):
        return
    with Store.open(corpus) as store:
        # A vector file whose transaction was never committed may lie about: nothing else.
        assert {problem.part for problem in store.check()} <= {"vectors"}
        for problem in store.check():
            assert "Files that nothing names" in problem.message
        for info in store.documents():
            texts = [
                path.read_text()
                for folder in folders
                if (path := folder / Path(info.name).name).exists()
            ]
            assert store.load(info.name).text in texts
            assert len(store.chunks(info.name)) == info.chunks > 0
        embedder = HashingEmbedder(dim=32)
        assert store.lacking_vectors(embedder.fingerprint) == []
        if store.documents():
            from chunkwise.rag.retrieval.dense import DenseRetriever

            assert DenseRetriever(store, embedder).search(Query("ferry ticket"), 5)


def check_that_nothing_is_lost(corpus: Path, docs: Path, before: dict[str, str]) -> None:
    """What was stored before, and what the killed run had committed, is still there."""
    log = corpus.with_suffix(".log")
    committed = set(log.read_text().splitlines()) if log.exists() else set()
    kept = {name for name in before if (docs / Path(name).name).exists()}
    assert committed | kept <= set(hashes(corpus))


def kill_at_random(runner: Runner, tmp_path: Path, number: int) -> None:
    rng = random.Random(number)
    docs = tmp_path / "docs"  # one name for both states of the folder: an update of the other
    states = [tmp_path / "one" / "docs", tmp_path / "two" / "docs"]
    write_folder(states[0], 20)
    write_folder(states[1], 18, seed=1)
    for n in range(0, 18, 2):
        shutil.copy(states[0] / f"doc{n:03d}.txt", states[1] / f"doc{n:03d}.txt")
    references, durations = [], []
    for n, state in enumerate(states):
        os.rename(state, docs)
        started = time.perf_counter()
        assert runner.run(tmp_path / f"reference{n}", docs) == 0
        durations.append(time.perf_counter() - started)
        os.rename(docs, state)
        references.append(contents(tmp_path / f"reference{n}"))

    killed = midway = 0
    corpus = tmp_path / "corpus"
    while killed < number:
        for n, state in enumerate(states):
            os.rename(state, docs)
            for _ in range(4):
                before = hashes(corpus)
                delay = rng.uniform(0, durations[n])
                killed += runner.run(corpus, docs, kill_after_s=delay) == -9
                check_what_was_committed(corpus, [docs, states[1 - n]])
                check_that_nothing_is_lost(corpus, docs, before)
                midway += hashes(corpus) not in (before, hashes(tmp_path / f"reference{n}"))
            assert runner.run(corpus, docs) == 0
            assert contents(corpus) == references[n]
            with Store.open(corpus) as store:
                assert store.check() == []
            os.rename(docs, state)
        if rng.random() < 0.5:
            shutil.rmtree(corpus)
    assert midway, "no kill fell into a run"


def test_kills_at_random_moments_lose_nothing(runner: Runner, tmp_path: Path) -> None:
    kill_at_random(runner, tmp_path, 20)


@pytest.mark.slow
def test_a_hundred_kills_lose_nothing(runner: Runner, tmp_path: Path) -> None:
    kill_at_random(runner, tmp_path, 100)
