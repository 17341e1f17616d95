"""Damaged, missing and full disks: said clearly, text never lost, repaired."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chunkwise.errors import StoreError
from chunkwise.rag.retrieval.bm25 import BM25Retriever
from chunkwise.rag.retrieval.dense import DenseRetriever
from chunkwise.store import Store
from chunkwise.types import Query
from tests.pipeline.folders import make_ingest, write_folder
from tests.store.corpora import EMBEDDER, create, prepared, put

ROOT = Path(__file__).parents[2]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 + 3)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
def test_damaged_vectors_are_said_and_made_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    write_folder(tmp_path / "docs", 10)
    with Store.open(tmp_path / "c", create=True) as store:
        make_ingest(store, tmp_path, batch_chunks=8).run([tmp_path / "docs"])
        texts = {info.name: store.load(info.name) for info in store.documents()}
        query = Query("ferry ticket for a child")
        right = DenseRetriever(store, EMBEDDER).search(query, 50)
    (file,) = (tmp_path / "c" / "vectors").iterdir()
    damage(file)
    with Store.open(tmp_path / "c") as store:
        if damage is not flip:  # a flipped bit is found by the doctor alone
            with pytest.raises(StoreError, match=r"No text is lost: run `chunkwise doctor"):
                DenseRetriever(store, EMBEDDER).search(query, 5)
        assert BM25Retriever(store).search(query, 5)
        assert {problem.part for problem in store.check()} == {"vectors"}
        done = store.repair()
        assert any("damaged vectors" in line for line in done)
        assert all("`chunkwise embed`" in problem.remedy for problem in store.check())
        made = make_ingest(store, tmp_path).embed_missing()
        assert 0 < made <= store.stats().vectors
        assert store.check() == []
        assert {info.name: store.load(info.name) for info in store.documents()} == texts
        assert DenseRetriever(store, EMBEDDER).search(query, 50) == right
        store.compact()
        assert store.check() == []
        assert DenseRetriever(store, EMBEDDER).search(query, 50) == right


def test_a_writer_goes_on_behind_a_damaged_file(tmp_path: Path) -> None:
    with create(tmp_path, prepared("a", ["x", "y"])) as store:
        (file,) = (tmp_path / "vectors").iterdir()
        os.truncate(file, 5)
        put(store, prepared("b", ["z"]))
        assert len(store.documents()) == 2
        store.repair()
        assert store.lacking_vectors(EMBEDDER.fingerprint) == ["a"]


def test_compaction_does_not_hide_damage(tmp_path: Path) -> None:
    with create(tmp_path, prepared("a", ["x", "y"]), prepared("b", ["z", "w"])) as store:
        store.remove(["a"])
        (file,) = (tmp_path / "vectors").iterdir()
        flip(file)
        with pytest.raises(StoreError, match="doctor --repair"):
            store.compact()


def test_bytes_that_were_never_committed_are_cut_off(tmp_path: Path) -> None:
    with create(tmp_path, prepared("a", ["x", "y"])) as store:
        (file,) = (tmp_path / "vectors").iterdir()
        with open(file, "ab") as stream:
            stream.write(b"rest of a transaction that died" * 9)
        (tmp_path / "vectors" / "000002.f32").write_bytes(b"also that")
        assert [str(p) for p in store.check()] == [
            "vectors: Files that nothing names: 000002.f32. Remedy: `chunkwise doctor --repair`."
        ]
        put(store, prepared("b", ["z"]))
        assert file.stat().st_size == 3 * EMBEDDER.dim * 4
        assert store.check() == []


def test_an_interrupt_leaves_no_file_of_its_transaction(tmp_path: Path) -> None:
    with create(tmp_path) as store:

        def interrupted() -> None:
            with store._transaction():
                store._files.append(store._connection, "some", np.ones((3, 4), np.float32))
                assert list((tmp_path / "vectors").iterdir())
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert not list((tmp_path / "vectors").iterdir())
        assert store.check() == []


def test_damaged_postings_are_built_again(tmp_path: Path) -> None:
    with create(tmp_path, prepared("a", ["ferry", "train"])) as store:
        store._connection.execute(
            "INSERT INTO postings (postings, rowid, text) VALUES ('delete', 1, 'ferry')"
        )
        assert [problem.part for problem in store.check()] == ["postings"]
        assert store.repair() == ["built the word index again"]
        assert store.check() == []
        assert BM25Retriever(store).search(Query("ferry"), 1)


def test_damaged_text_is_found(tmp_path: Path) -> None:
    with create(tmp_path, prepared("a", ["ferry"]), prepared("b", ["train"])) as store:
        store._connection.execute("UPDATE body SET text = x'00' WHERE document = 1")
        store._connection.execute("UPDATE occurrence SET first = 1 WHERE document = 2")
        found = store.check()
        assert [problem.part for problem in found] == ["documents", "documents"]
        assert "'a'" in found[0].message
        assert "1 chunks of 'b'" in found[1].message
        with pytest.raises(StoreError, match="remove the document and add it"):
            store.load("a")


def test_a_damaged_database_is_said(tmp_path: Path) -> None:
    lines = [f"line {n} of a long text" for n in range(2000)]
    create(tmp_path, prepared("a", lines)).close()
    database = tmp_path / "corpus.sqlite"
    with sqlite3.connect(database) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    data = bytearray(database.read_bytes())
    data[8192 : len(data) // 2] = os.urandom(len(data) // 2 - 8192)
    database.write_bytes(bytes(data))
    with pytest.raises(StoreError, match=r"restore|doctor"):
        read_everything(tmp_path)


def read_everything(folder: Path) -> None:
    with Store.open(folder) as store:
        assert [problem.part for problem in store.check()] == ["database"]
        store.load("a")
        store.chunks("a")


@pytest.mark.parametrize("limit_kb", [40, 100, 200, 400])
def test_a_full_disk_is_said_and_leaves_what_was_committed(tmp_path: Path, limit_kb: int) -> None:
    """A limit on the size of files stands in for a full disk: both fail a write midway."""
    code = (
        "import sys, pathlib\n"
        "from chunkwise.errors import StoreError\n"
        "from chunkwise.store import Store\n"
        "from tests.store.corpora import prepared, put\n"
        "try:\n"
        "    with Store.open(pathlib.Path(sys.argv[1]), create=True) as store:\n"
        "        for n in range(400):\n"
        "            put(store, prepared(f'd{n}', [f'text {n} {m} ' * 9 for m in range(20)]))\n"
        "except StoreError as error:\n"
        "    print(error)\n"
    )
    limit = limit_kb * 1024
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert "the disk is full" in done.stdout, done.stdout
    if not Store.exists(tmp_path):
        return
    with Store.open(tmp_path, create=True) as store:
        assert {problem.part for problem in store.check()} <= {"vectors"}
        infos = store.documents()
        assert [store.load(info.name).name for info in infos] == [info.name for info in infos]
        put(store, prepared("after", ["there is room again"]))
        assert store.check() == []
        assert DenseRetriever(store, EMBEDDER).search(Query("room"), 1)
