"""One process writes while others search."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from chunkwise.rag.retrieval.bm25 import BM25Retriever
from chunkwise.rag.retrieval.dense import DenseRetriever
from chunkwise.rag.retrieval.hybrid import HybridRetriever
from chunkwise.store import Store
from chunkwise.types import Filter, Query
from tests.store.corpora import EMBEDDER, create, prepared, put

ROOT = Path(__file__).parents[2]


def write(folder: Path) -> None:
    """Add, change, remove and compact until killed or 60 rounds are done."""
    rng = random.Random(0)
    with Store.open(folder) as store:
        for number in range(60):
            names = [f"d{rng.randrange(12)}" for _ in range(4)]
            put(store, *(prepared(n, [f"ferry {n} {number} {m}" for m in range(6)]) for n in names))
            store.remove([f"d{rng.randrange(12)}"])
            if number % 7 == 0:
                store.compact()


def test_readers_see_whole_documents_while_one_writes(tmp_path: Path) -> None:
    create(tmp_path, prepared("always", [f"ferry always {m}" for m in range(6)])).close()
    code = (
        "import sys, pathlib; from tests.store.test_processes import write\n"
        "write(pathlib.Path(sys.argv[1]))"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    searches, sizes = 0, set()
    with Store.open(tmp_path) as store:
        bm25, dense = BM25Retriever(store), DenseRetriever(store, EMBEDDER)
        hybrid = HybridRetriever(store, bm25, dense)
        while writer.poll() is None:
            for retriever in (bm25, dense, hybrid):
                hits = retriever.search(Query("ferry"), 200)
                for hit in hits:
                    assert hit.chunk.text.startswith("ferry")
                    assert hit.document in hit.chunk.text
                counts = {d: sum(h.document == d for h in hits) for d in {h.document for h in hits}}
                assert set(counts.values()) == {6}  # never half a document
                sizes.add(len(counts))
                kept = retriever.search(Query("ferry", Filter(paths=("always",))), 50)
                assert len(kept) == 6
                searches += 1
        assert writer.returncode == 0
        assert searches >= 3  # each retriever at least once
        assert len(sizes) > 1, "the readers saw no change"
        assert store.check() == []
