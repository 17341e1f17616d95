"""How fast does a folder become searchable, what does it take, and how fast is search meanwhile?

Why: ingest is the first thing a user waits for, and memory that grows with the corpus is the way
tools of this kind die. Search must stay quick while another process writes.

What it does not tell: nothing about answers. The text is made from a seeded vocabulary with a
Zipf distribution (its commonest words are English stop words), so parsing is the easy part here;
PDF and office files parse far slower (see `parsing.py`). The vectors of the main run are hashed,
which costs little; the rate with a trained model is taken on a sample.

Baselines in the same run: the same texts put into plain SQLite with a word index and nothing
else, and one product of a matrix of the same shape with a vector.

Run: python benchmarks/ingest.py [--documents 2000] [--chunks 100000] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from _machine import machine
from chunkwise.pipeline.ingest import Ingest
from chunkwise.rag._stopwords import STOPWORDS
from chunkwise.rag.chunking import chunkers
from chunkwise.rag.counting import named_counter
from chunkwise.rag.embedding import embedders
from chunkwise.rag.parsing.worker import Limits
from chunkwise.rag.retrieval import retrievers
from chunkwise.store import Store
from chunkwise.types import Embedder, Filter, Query

SIZE = 200  # tokens of a chunk, as in the default settings
WORDS_PER_CHUNK = 75  # of the made-up vocabulary, measured
QUESTIONS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where to work; by default a new folder")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        task, corpus, folder = given.child
        print(json.dumps(CHILDREN[task](Path(corpus), Path(folder))))
        return
    here = given.folder or Path(tempfile.mkdtemp(prefix="chunkwise-ingest-"))
    try:
        measure(here, given.documents, given.chunks)
    finally:
        if given.folder is None:
            shutil.rmtree(here)


def measure(here: Path, documents: int, chunks: int) -> None:
    print(machine())
    total_bytes = write_documents(here, documents, chunks)
    print(f"{documents} files, {total_bytes / 1e6:.1f} MB")
    quarter = child("ingest", here / "corpus-quarter", here / "quarter")
    print("quarter of the files:", quarter)
    whole = child("ingest", here / "corpus", here / "files")
    print("all files:", whole)
    again = child("ingest", here / "corpus", here / "files")
    print("again, unchanged:", again)
    assert again["embedded"] == 0
    assert again["unchanged"] == documents
    with Store.open(here / "corpus") as store:
        started = time.perf_counter()
        assert store.check() == []
        check_s = time.perf_counter() - started
        stats = store.stats()
    print(f"doctor: {check_s:.1f} s, no problem; {stats}")
    baseline = plain_sqlite(here)
    print("plain SQLite with a word index:", baseline)
    search = search_times(here, stats.vectors)
    print("search:", json.dumps(search, indent=1))
    model = sample_rate(here)
    print("trained model on a sample:", model)
    disk = stats.database_bytes + stats.vector_bytes
    result = {
        "benchmark": "ingest",
        **machine(),
        "documents": documents,
        "chunks": stats.chunks,
        "megabytes": round(total_bytes / 1e6, 1),
        "documents_per_s": round(documents / whole["seconds"], 1),
        "chunks_per_s": round(stats.chunks / whole["seconds"]),
        "stages_s": whole["stages"],
        "plain_sqlite_chunks_per_s": baseline["chunks_per_s"],
        "peak_rss_mb_quarter": quarter["peak_mb"],
        "peak_rss_mb": whole["peak_mb"],
        "own_rss_mb_quarter": quarter["own_mb"],
        "own_rss_mb": whole["own_mb"],
        "bytes_per_chunk": round(disk / stats.chunks),
        "database_bytes_per_chunk": round(stats.database_bytes / stats.chunks),
        "unchanged_run_s": again["seconds"],
        "doctor_s": round(check_s, 1),
        "search": search,
        "trained_model": model,
    }
    print(json.dumps(result))


def ingest_of(store: Store, root: Path, embedder: Embedder) -> Ingest:
    """The stages with their default settings."""
    counter = named_counter("minilm")
    return Ingest(
        store,
        root=root,
        chunker=chunkers.build("recursive", size=SIZE, counter=counter),
        counter=counter,
        embedder=embedder,
        recipe={"parse": "1", "chunk": "1", "embed": embedder.fingerprint},
        limits=Limits(),
    )


def run_ingest(corpus: Path, folder: Path) -> dict[str, Any]:
    """One run, with the peak of memory of this process and its children together."""
    peak = PeakMemory()
    started = time.perf_counter()
    with Store.open(corpus, create=True) as store:
        report = ingest_of(store, folder, embedders.build("hashing")).run([folder])
    seconds = time.perf_counter() - started
    assert not report.failed
    return {
        "seconds": round(seconds, 2),
        "added": report.added,
        "unchanged": report.unchanged,
        "embedded": report.embedded,
        "stages": {stage: round(spent, 2) for stage, spent in report.seconds.items()},
        "peak_mb": round(peak.stop() / 1e6),
        "own_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }


def keep_writing(corpus: Path, folder: Path) -> dict[str, Any]:
    """Add and change documents until killed."""
    words = vocabulary()
    with Store.open(corpus) as store:
        ingest = ingest_of(store, folder, embedders.build("hashing"))
        for number in range(10**6):
            for n in range(20):
                text = document_text(words, f"writer {number} {n}", 20)
                (folder / f"extra-{n}.md").write_text(text)
            ingest.run([folder])
            time.sleep(0.2)
    return {}


CHILDREN: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "ingest": run_ingest,
    "write": keep_writing,
}


def child(task: str, corpus: Path, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", task, str(corpus), str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


class PeakMemory:
    """Samples the resident memory of this process and its children, 20 times a second."""

    def __init__(self) -> None:
        self.peak = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._stopped.set()
        self._thread.join()
        return self.peak

    def _sample(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        own = os.getpid()
        while not self._stopped.wait(0.05):
            total = 0
            children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
            for process in (str(own), *children):
                try:
                    total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * page
                except (FileNotFoundError, ProcessLookupError):
                    continue  # it has just ended
            self.peak = max(self.peak, total)


def vocabulary() -> tuple[list[str], list[float]]:
    """Words with cumulative weights; the commonest are stop words."""
    rng = random.Random(7)
    syllables = [c + v for c in "bcdfghklmnprstvw" for v in ("a", "e", "i", "o", "u", "er", "an")]
    common = sorted(word for word in STOPWORDS if word.isascii())[:120]
    made: dict[str, None] = dict.fromkeys(common)
    while len(made) < 60_000:
        made["".join(rng.choices(syllables, k=rng.randint(2, 4)))] = None
    weights = np.cumsum(1 / (np.arange(len(made)) + 2.7) ** 1.07)
    return list(made), weights.tolist()


def document_text(words: tuple[list[str], list[float]], seed: str, chunks: int) -> str:
    """Markdown with headings and paragraphs; a third of the words are of the document's topic."""
    rng = random.Random(seed)
    topic = rng.sample(words[0][200:], 150)
    parts = [f"# {' '.join(rng.sample(topic, 4)).capitalize()}"]
    for number in range(chunks):
        if number % 6 == 5:
            parts.append(f"## {' '.join(rng.sample(topic, 3)).capitalize()}")
        mixed = rng.choices(words[0], cum_weights=words[1], k=WORDS_PER_CHUNK)
        for place in range(0, WORDS_PER_CHUNK, 4):
            mixed[place] = rng.choice(topic)
        sentences = [mixed[n : n + 15] for n in range(0, len(mixed), 15)]
        parts.append(" ".join(" ".join(s).capitalize() + "." for s in sentences))
    return "\n\n".join(parts) + "\n"


def write_documents(here: Path, documents: int, chunks: int) -> int:
    """The files, and a folder with the first quarter of them."""
    words, total = vocabulary(), 0
    old = time.time_ns() - 10**10
    for name in ("files", "quarter"):
        (here / name).mkdir(parents=True, exist_ok=True)
    for number in range(documents):
        text = document_text(words, str(number), chunks // documents)
        path = here / "files" / f"{number:05d}.{'md' if number % 2 else 'txt'}"
        path.write_text(text)
        os.utime(path, ns=(old, old))
        if number < documents // 4:
            shutil.copy2(path, here / "quarter" / path.name)
        total += len(text)
    return total


def plain_sqlite(here: Path) -> dict[str, Any]:
    """The floor: the same texts in one table with a word index, without anything else."""
    with Store.open(here / "corpus") as store:
        texts = [chunk.text for info in store.documents() for chunk in store.chunks(info.name)]
    connection = sqlite3.connect(here / "plain.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE content (id INTEGER PRIMARY KEY, text TEXT)")
    connection.execute(
        "CREATE VIRTUAL TABLE postings USING fts5 (text, content='content', content_rowid='id', "
        "tokenize='porter unicode61')"
    )
    started = time.perf_counter()
    for start in range(0, len(texts), 8192):
        rows = list(enumerate(texts[start : start + 8192], start + 1))
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO content VALUES (?, ?)", rows)
        connection.executemany("INSERT INTO postings (rowid, text) VALUES (?, ?)", rows)
        connection.execute("COMMIT")
    seconds = time.perf_counter() - started
    connection.close()
    return {"seconds": round(seconds, 2), "chunks_per_s": round(len(texts) / seconds)}


def search_times(here: Path, rows: int) -> dict[str, Any]:
    """Milliseconds of searches, alone and while another process writes."""
    embedder = embedders.build("hashing")
    with Store.open(here / "corpus") as store:
        bm25 = retrievers.build("bm25", store=store)
        dense = retrievers.build("dense", store=store, embedder=embedder)
        hybrid = retrievers.build("hybrid", store=store, bm25=bm25, dense=dense)
        questions = make_questions(store)
        result: dict[str, Any] = {"matrix_product_floor_p50_ms": product_floor(rows)}
        for name, retriever in (("bm25", bm25), ("dense", dense), ("hybrid", hybrid)):
            result[name] = percentiles(retriever, questions)
        one = Filter(paths=("00007.md",))
        result["hybrid_one_document"] = percentiles(hybrid, questions, one)
        (here / "extra").mkdir(exist_ok=True)
        command = [sys.executable, __file__, "--child", "write"]
        command += [str(here / "corpus"), str(here / "extra")]
        writer = subprocess.Popen(command)
        try:
            while not store.documents(Filter(paths=("extra-*",))):
                time.sleep(0.1)
            result["hybrid_while_writing"] = percentiles(hybrid, questions)
        finally:
            writer.kill()
            writer.wait()
        assert store.check() == []
    return result


def product_floor(rows: int) -> float:
    """Median milliseconds of one product of a matrix of that many rows with a vector."""
    matrix = np.random.default_rng(0).standard_normal((rows, 384), dtype=np.float32)
    vector = matrix[0].copy()
    times = [_ms(lambda: matrix @ vector) for _ in range(15)]
    return round(statistics.median(times[5:]), 2)


def make_questions(store: Store) -> list[str]:
    """Words of chunks as they stand in the text, stop words and all."""
    rng = random.Random(3)
    names = [info.name for info in store.documents()]
    questions = []
    for _ in range(QUESTIONS):
        chunk = rng.choice(store.chunks(rng.choice(names)))
        words = chunk.text.split()
        questions.append(" ".join(rng.sample(words, min(10, len(words)))) + "?")
    return questions


def percentiles(
    retriever: Any, questions: list[str], filter: Filter | None = None
) -> dict[str, float]:
    for question in questions[:10]:
        retriever.search(Query(question, filter or Filter()), 10)
    times = []
    for question in questions:
        query = Query(question, filter or Filter())
        times.append(_ms(lambda query=query: retriever.search(query, 10)))
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}


def sample_rate(here: Path) -> dict[str, Any]:
    """Chunks a second with the default model, over some 2,000 chunks."""
    try:
        embedder = embedders.build("encoder")
    except ImportError as error:
        return {"skipped": str(error)}
    embedder.embed(["warm up"])
    (here / "sample").mkdir(exist_ok=True)
    for path in sorted((here / "files").iterdir())[:40]:
        shutil.copy2(path, here / "sample" / path.name)
    started = time.perf_counter()
    with Store.open(here / "corpus-sample", create=True) as store:
        report = ingest_of(store, here / "sample", embedder).run([here / "sample"])
        chunks = store.stats().chunks
    seconds = time.perf_counter() - started
    return {
        "chunks": chunks,
        "chunks_per_s": round(chunks / seconds, 1),
        "embed_share": round(report.seconds["embed"] / seconds, 3),
    }


def _ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
