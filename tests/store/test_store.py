"""Documents in and out, versions, copies, settings, the lock, the schema."""

from __future__ import annotations

import dataclasses
import hashlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.errors import CorpusLockedError, IndexMismatchError, StoreError
from chunkwise.rag.embedding.hashing import HashingEmbedder
from chunkwise.store import Changes, Store, schema
from chunkwise.types import Block, Box, Document, Filter, Span
from tests.store.corpora import EMBEDDER, create, prepared, put, vectors_of


def test_a_missing_corpus_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    assert not Store.exists(tmp_path)
    with pytest.raises(StoreError, match="create one with `chunkwise add`"):
        Store.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "corpus.sqlite").write_bytes(b"not a database, but long enough " * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(tmp_path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    create(tmp_path).close()
    with sqlite3.connect(tmp_path / "corpus.sqlite") as raw:
        raw.execute(f"PRAGMA user_version = {schema.SCHEMA + 1}")
    raw.close()
    with pytest.raises(StoreError, match="newer Chunkwise"):
        Store.open(tmp_path)


def test_the_schema_is_the_one_released(tmp_path: Path) -> None:
    """Change it by a further migration only, never by editing a script."""
    scripts = "".join(schema.MIGRATIONS).encode()
    digest = hashlib.blake2b(scripts, digest_size=8).hexdigest()
    assert (schema.SCHEMA, digest) == (1, "d3447cfbd4594b2e")


def test_documents_come_back_as_parsed(tmp_path: Path) -> None:
    document = Document(
        "a.pdf",
        "Häading\nα β\ud800\x00 γ",
        blocks=(
            Block("heading", 0, 7, level=1, page=1, boxes=(Box(1, 0.5, 1.5, 2.5, 3.5),)),
            Block("table", 8, 12, rows=(Span(8, 9), Span(10, 11)), header_rows=1, name="x"),
        ),
        pages=(Span(0, 12),),
        title="T",
        metadata={"author": "Ä"},
        warnings=("page 2 is blank",),
    )
    with create(tmp_path) as store:
        store.replace([dataclasses.replace(prepared("a.pdf", []), document=document)], {})
        assert store.load("a.pdf") == document
        (info,) = store.documents()
    assert (info.title, info.metadata, info.version, info.chunks) == ("T", {"author": "Ä"}, 1, 0)
    assert info.recipe == {"parse": "1"}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=6))
def test_chunks_come_back_for_any_text(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    item = prepared("a", lines)
    with create(tmp_path_factory.mktemp("c"), item) as store:
        assert store.chunks("a") == list(item.chunks)
        assert store.load("a") == item.document
        assert store.check() == []
        store.remove(["a"])
        assert store.check() == []


def test_headings_headers_and_pages_come_back(tmp_path: Path) -> None:
    item = prepared("a", ["one", "two"])
    chunks = [
        dataclasses.replace(item.chunks[0], headings=("A", "B 'q' \"q\""), header="x | y"),
        dataclasses.replace(item.chunks[1], header="x | y", pages=(1, 3)),
    ]
    with create(tmp_path, dataclasses.replace(item, chunks=chunks)) as store:
        assert store.chunks("a") == chunks


def test_equal_text_is_stored_and_embedded_once_and_shown_at_all_places(tmp_path: Path) -> None:
    with create(tmp_path, prepared("b", ["same", "other"]), prepared("a", ["same"])) as store:
        stats = store.stats()
        assert (stats.chunks, stats.contents, stats.vectors) == (3, 2, 2)
        (match, _), *more = store.match('"same"', 10)
        assert not more
        (hit,) = store.hits({match: 1.0}, "bm25")
    assert (hit.document, hit.copies) == ("a", (("b", Span(0, 4)),))


def test_replace_keeps_what_is_equal(tmp_path: Path) -> None:
    with create(tmp_path, prepared("a", ["x", "y", "y"])) as store:
        before = dict(store._connection.execute("SELECT key, id FROM content"))
        assert put(store, prepared("a", ["new", "y", "x"])) == Changes(kept=2, new=1, removed=1)
        after = dict(store._connection.execute("SELECT key, id FROM content"))
        assert before.items() <= after.items()
        info = store.info("a")
        assert info is not None
        assert (info.version, info.chunks) == (2, 3)
        assert [c.text for c in store.chunks("a")] == ["new", "y", "x"]


def test_a_version_counts_texts_not_cuts(tmp_path: Path) -> None:
    with create(tmp_path, prepared("a", ["x", "y"])) as store:
        whole = prepared("a", ["x\ny"])
        assert put(store, whole) == Changes(new=1, removed=2)
        info = store.info("a")
        assert info is not None
        assert (info.version, info.chunks) == (1, 1)


def test_a_batch_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    good, bad = prepared("good", ["x"]), prepared("bad", ["y \ud800"])
    with create(tmp_path) as store:
        with pytest.raises(StoreError, match="surrogate"):
            store.replace([good, bad], {})
        assert store.documents() == []
        with pytest.raises(StoreError, match="not finite"):
            store.replace([good], {good.embed_ids[0]: np.full(4, np.nan, "f4")}, fingerprint="f")
        assert store.documents() == []
        put(store, good)
        assert store.check() == []


def test_remove_drops_what_only_they_used(tmp_path: Path) -> None:
    with create(tmp_path, prepared("a", ["x", "y"]), prepared("b", ["y", "z"])) as store:
        assert store.remove(["a", "unknown"]) == Changes(removed=2)
        assert store.match('"x"', 9) == []
        assert len(store.match('"y"', 9)) == 1
        stats = store.stats()
        assert (stats.documents, stats.contents, stats.vectors, stats.dead_vectors) == (1, 2, 2, 1)
        assert store.check() == []


def test_filters_are_globs_and_pairs(tmp_path: Path) -> None:
    batch = [
        prepared("x/a.md", ["1"], lang="de"),
        prepared("x/b.txt", ["2"]),
        prepared("[c]", ["3"]),
    ]
    with create(tmp_path, *batch) as store:

        def names(**kwargs: object) -> list[str]:
            return [info.name for info in store.documents(Filter(**kwargs))]  # type: ignore[arg-type]

        assert names() == ["[c]", "x/a.md", "x/b.txt"]
        assert names(paths=("*.md", "x/b*")) == ["x/a.md", "x/b.txt"]
        assert names(metadata={"lang": "de"}) == ["x/a.md"]
        assert names(paths=("x/*",), metadata={"lang": "en"}) == []


def test_settings_are_remembered(tmp_path: Path) -> None:
    with create(tmp_path) as store:
        assert store.setting("recipe") is None
        store.put_setting("recipe", "{}")
        store.put_setting("recipe", "ü")
    with Store.open(tmp_path) as store:
        assert store.setting("recipe") == "ü"


def test_a_second_writer_waits_and_then_names_the_first(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from chunkwise.store import Store\n"
        "with Store.open(pathlib.Path(sys.argv[1])) as store, store.writing():\n"
        "    print('held', flush=True); sys.stdin.readline()\n"
    )
    with create(tmp_path) as store:
        holder = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with holder:
            assert holder.stdout is not None
            assert holder.stdin is not None
            assert holder.stdout.readline() == "held\n"
            with (
                pytest.raises(CorpusLockedError, match=f"Process {holder.pid} "),
                store.writing(0.1),
            ):
                pass
            assert store.documents() == []  # readers go on
            holder.stdin.write("\n")
            holder.stdin.flush()
            with store.writing(10.0), store.writing(0.0):
                put(store, prepared("a", ["x"]))
        with store.writing(0.0):
            pass


def test_vectors_of_another_embedder_are_refused(tmp_path: Path) -> None:
    other = HashingEmbedder(dim=16)
    with create(tmp_path, prepared("a", ["x", "y"])) as store:
        with pytest.raises(IndexMismatchError) as caught:
            store.matrices(other.fingerprint)
        for part in (other.fingerprint, EMBEDDER.fingerprint, "chunkwise embed", "2 of 2"):
            assert part in str(caught.value)
        item = prepared("a", ["x", "y"])
        only_x = {item.embed_ids[0]: vectors_of([item], other)[item.embed_ids[0]]}
        store.replace([item], only_x, fingerprint=other.fingerprint)
        assert store.missing_vectors(item.embed_ids, other.fingerprint) == {item.embed_ids[1]}
        assert store.lacking_vectors(other.fingerprint) == ["a"]
        with pytest.raises(IndexMismatchError, match="1 of 2"):
            store.matrices(other.fingerprint)
        assert len(store.matrices(EMBEDDER.fingerprint)) == 1  # both live side by side
        put(store, item, embedder=other)
        store.drop_vectors(keep=other.fingerprint)
        assert [len(m.array) for m in store.matrices(other.fingerprint)] == [2]
        assert len(list((tmp_path / "vectors").iterdir())) == 1
        assert store.check() == []


def test_compaction_drops_dead_rows_and_readers_keep_their_maps(tmp_path: Path) -> None:
    items = [prepared(f"d{n}", [f"text {n}", f"more {n}"]) for n in range(20)]
    with create(tmp_path, *items) as store, Store.open(tmp_path) as reader:
        (old,) = reader.matrices(EMBEDDER.fingerprint)
        held = old.array.copy()
        store.remove([f"d{n}" for n in range(0, 20, 2)])
        assert store.compact() == 20
        assert store.stats().dead_vectors == 0
        assert not old.path.exists()
        np.testing.assert_array_equal(old.array, held)
        (new,) = reader.matrices(EMBEDDER.fingerprint)
        assert new.array.shape == (20, EMBEDDER.dim)
        for row, content, _ in reader.owners(new.segment, range(20)):
            (hit,) = reader.hits({content: 1.0}, "s")
            np.testing.assert_allclose(new.array[row], EMBEDDER.embed([hit.chunk.text])[0])
        assert store.check() == []
        assert store.compact() == 0


def test_postings_are_made_again_when_their_form_changes(tmp_path: Path) -> None:
    with create(tmp_path, prepared("a", ["水道の水"])) as store:
        store.put_setting("searchable", "an older form")
        store._connection.execute("INSERT INTO postings (postings) VALUES ('delete-all')")
        assert store.match('"水道"', 5) == []
    with Store.open(tmp_path) as store:
        with store.writing():
            pass
        assert len(store.match('"水道"', 5)) == 1
        assert store.check() == []
