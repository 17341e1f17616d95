"""What is done, and above all what is not done again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chunkwise.errors import ChunkwiseError, RequestError
from chunkwise.pipeline.forms import Forms
from chunkwise.pipeline.ingest import Ingest
from chunkwise.pipeline.reports import Progress
from chunkwise.rag.chunking import chunkers
from chunkwise.rag.counting import named_counter
from chunkwise.rag.embedding.hashing import HashingEmbedder
from chunkwise.rag.enrichment.headings import HeadingsEnricher
from chunkwise.rag.parsing.worker import ParserPool
from chunkwise.rag.situating.none import NoSituator
from chunkwise.store import Store
from chunkwise.types import Document, Filter, Query, Span
from tests.pipeline.folders import (
    RECIPE,
    CountingEmbedder,
    SerialParsers,
    age,
    make_ingest,
    write_folder,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "docs", 12)
    age(tmp_path / "docs")
    return tmp_path


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with Store.open(folder / "corpus", create=True) as opened:
        yield opened


def test_a_run_stores_every_file_with_its_chunks(folder: Path, store: Store) -> None:
    report = make_ingest(store, folder).run([folder / "docs"])
    infos = store.documents()
    assert [info.name for info in infos] == [f"docs/doc{n:03d}.txt" for n in range(12)]
    assert (report.added, report.updated, report.unchanged) == (12, 0, 0)
    assert report.chunks.new == sum(info.chunks for info in infos) == store.stats().chunks
    assert report.embedded == store.stats().vectors
    assert set(report.seconds) == {"parse", "cut", "embed", "store", "total"}
    for info in infos:
        assert store.load(info.name).text == (folder / info.name).read_text()
        assert info.recipe == RECIPE
    assert store.check() == []


def test_a_second_run_reads_nothing(folder: Path, store: Store) -> None:
    make_ingest(store, folder).run([folder / "docs"])
    again = make_ingest(store, folder)
    report = again.run([folder / "docs"])
    assert (report.added, report.updated, report.unchanged, report.embedded) == (0, 0, 12, 0)
    assert again._parsers().read == []  # type: ignore[attr-defined]


def test_a_touched_file_is_read_but_not_parsed(folder: Path, store: Store) -> None:
    make_ingest(store, folder).run([folder / "docs"])
    before = store.documents()
    (folder / "docs/doc003.txt").touch()
    for times_read in (1, 1):  # its time is too fresh to be relied on, so it is read again
        again = make_ingest(store, folder)
        report = again.run([folder / "docs"])
        parsers: Any = again._parsers()
        assert (len(parsers.read), parsers.parsed, report.unchanged) == (times_read, [], 12)
    age(folder / "docs")
    make_ingest(store, folder).run([folder / "docs"])
    assert [dataclasses.replace(i, mtime_ns=0) for i in store.documents()] == [
        dataclasses.replace(i, mtime_ns=0) for i in before
    ]
    again = make_ingest(store, folder)
    again.run([folder / "docs"])
    assert again._parsers().read == []  # type: ignore[attr-defined]


def test_a_changed_paragraph_is_the_only_one_embedded(folder: Path, store: Store) -> None:
    make_ingest(store, folder).run([folder / "docs"])
    path = folder / "docs/doc005.txt"
    parts = path.read_text().split("\n\n")
    path.write_text("\n\n".join([*parts[:3], "An entirely new paragraph.", *parts[4:]]))
    report = make_ingest(store, folder).run([folder / "docs"])
    assert (report.updated, report.unchanged, report.embedded) == (1, 11, report.chunks.new)
    assert report.chunks.kept >= 1
    assert report.chunks.new <= 2
    info = store.info("docs/doc005.txt")
    assert info is not None
    assert info.version == 2
    assert store.check() == []


def test_a_document_that_a_model_cannot_read_is_reported_and_the_others_are_stored(
    folder: Path, store: Store
) -> None:
    counter = named_counter("words")

    @dataclasses.dataclass(frozen=True)
    class Picky:
        size: int = 20

        def split(self, document: Document, query: Query | None = None) -> list[Span]:
            if document.name.endswith("003.txt"):
                raise RequestError("too long for the model")
            return chunkers.build("recursive", size=20, counter=counter).split(document)

    report = make_ingest(store, folder, chunker=Picky()).run([folder / "docs"])
    assert report.failed == [("docs/doc003.txt", "too long for the model")]
    assert report.added == 11
    assert store.check() == []


def test_a_new_chunker_cuts_stored_text_without_parsing(folder: Path, store: Store) -> None:
    make_ingest(store, folder).run([folder / "docs"])
    counter = named_counter("words")
    chunker = chunkers.build("recursive", size=8, counter=counter)
    again = make_ingest(store, folder, chunker=chunker, recipe={**RECIPE, "chunk": "2"})
    report = again.run([folder / "docs"])
    assert again._parsers().read == []  # type: ignore[attr-defined]
    assert (report.updated, report.unchanged) == (12, 0)
    for info in store.documents():
        assert all(chunk.tokens <= 8 for chunk in store.chunks(info.name))
        assert info.version == 1
    assert store.check() == []


def test_a_new_parser_parses_again(folder: Path, store: Store) -> None:
    make_ingest(store, folder).run([folder / "docs"])
    again = make_ingest(store, folder, recipe={**RECIPE, "parse": "2"})
    report = again.run([folder / "docs"])
    assert len(again._parsers().parsed) == 12  # type: ignore[attr-defined]
    assert (report.updated, report.embedded, report.chunks.new) == (12, 0, 0)


def test_embedding_again_goes_on_where_it_was_stopped(folder: Path, store: Store) -> None:
    make_ingest(store, folder).run([folder / "docs"])
    chunks = {info.name: store.chunks(info.name) for info in store.documents()}
    other = CountingEmbedder(dim=48)
    ingest = make_ingest(
        store, folder, embedder=other, recipe={**RECIPE, "embed": "2"}, batch_chunks=1
    )

    def stop(progress: Progress) -> None:
        if progress.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest.embed_missing(progress=stop)
    done = other.count
    assert 0 < done < store.stats().contents
    with pytest.raises(Exception, match="chunkwise embed"):
        store.matrices(other.fingerprint)
    assert ingest.embed_missing() == other.count - done
    assert other.count == store.stats().contents == store.stats().vectors
    assert len(store.matrices(other.fingerprint)) == 1
    assert {info.name: store.chunks(info.name) for info in store.documents()} == chunks
    assert ingest.embed_missing() == 0
    assert store.check() == []


class PickyEnricher(HeadingsEnricher):
    """Cannot say anything of one document."""

    def enrich(self, document: Document, chunks: Any, rooms: Any) -> Any:
        if document.name == "docs/doc003.txt":
            raise RequestError("the chunk is too long for the model")
        return super().enrich(document, chunks, rooms)


def test_a_document_that_cannot_be_embedded_again_does_not_stop_the_others(
    folder: Path, store: Store
) -> None:
    make_ingest(store, folder).run([folder / "docs"])
    other, counter = CountingEmbedder(dim=48), named_counter("words")
    said = {"headings": PickyEnricher(counter=counter)}
    forms = Forms(counter, said, NoSituator(embedder=other))
    recipe = {**RECIPE, "embed": "2"}
    ingest = make_ingest(store, folder, embedder=other, forms=forms, recipe=recipe)
    with pytest.raises(ChunkwiseError, match=r"1 documents .* 'docs/doc003\.txt' .* too long"):
        ingest.embed_missing()
    assert store.lacking_vectors(other.fingerprint) == ["docs/doc003.txt"]


def test_equal_text_is_embedded_once_in_a_batch_and_across_batches(
    folder: Path, store: Store
) -> None:
    for n in range(6):
        (folder / f"docs/doc{n:03d}.txt").write_text("The same short text.")
        (folder / f"docs/doc{n + 6:03d}.txt").write_text(f"{n} Another text.")
    embedder = CountingEmbedder(dim=32)
    ingest = make_ingest(store, folder, embedder=embedder, batch_chunks=3)
    report = ingest.run([folder / "docs"])
    assert embedder.count == report.embedded == 7
    (copies,) = {len(h.copies) for h in store.hits({store.match('"short"', 5)[0][0]: 1.0}, "bm25")}
    assert copies == 5


def test_bad_files_are_reported_and_the_rest_goes_on(folder: Path, store: Store) -> None:
    (folder / "docs/doc004.txt").write_bytes(b"BAD")
    (folder / "docs/half.txt").write_bytes("ok \ud800 here".encode("utf-8", "surrogatepass"))
    report = make_ingest(store, folder).run([folder / "docs", folder / "nowhere"])
    assert dict(report.failed)["docs/doc004.txt"] == "is bad"
    assert "nowhere" in dict(report.failed)
    assert report.added == 12
    assert store.load("docs/half.txt").text == "ok \ufffd here"


def test_a_file_that_went_bad_keeps_what_was_stored(folder: Path, store: Store) -> None:
    make_ingest(store, folder).run([folder / "docs"])
    text = store.load("docs/doc004.txt").text
    (folder / "docs/doc004.txt").write_bytes(b"BAD")
    report = make_ingest(store, folder).run([folder / "docs"])
    assert [name for name, _ in report.failed] == ["docs/doc004.txt"]
    assert store.load("docs/doc004.txt").text == text


def test_prune_removes_documents_whose_files_are_gone(folder: Path, store: Store) -> None:
    write_folder(folder / "other", 2)
    make_ingest(store, folder).run([folder / "docs", folder / "other"])
    (folder / "docs/doc001.txt").unlink()
    (folder / "other/doc001.txt").unlink()
    report = make_ingest(store, folder).run([folder / "docs"], include=["*7.txt"])
    assert report.removed == 0
    report = make_ingest(store, folder).run([folder / "docs"], include=["*7.txt"], prune=True)
    assert report.removed == 1
    assert store.info("docs/doc001.txt") is None
    assert len(store.documents()) == 13  # nothing outside, nothing that merely does not match
    gone = folder / "other/doc001.txt"
    report = make_ingest(store, folder).run([gone], prune=True)
    assert (report.removed, report.failed) == (1, [])
    assert store.check() == []


def test_ctrl_c_keeps_what_was_stored(folder: Path, store: Store) -> None:
    ingest = make_ingest(store, folder, batch_chunks=1)

    def stop(progress: Progress) -> None:
        if progress.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest.run([folder / "docs"], progress=stop)
    assert ingest.report.added == len(store.documents()) == 5
    assert store.check() == []
    report = make_ingest(store, folder).run([folder / "docs"])
    assert (report.added, report.unchanged) == (7, 5)


def test_progress_counts_every_document(folder: Path, store: Store) -> None:
    seen: list[Progress] = []
    make_ingest(store, folder).run([folder / "docs"], progress=seen.append)
    assert [p.done for p in seen] == list(range(1, 13))
    assert {p.total for p in seen} == {12}


def test_a_corpus_without_vectors_is_searched_by_words(folder: Path, store: Store) -> None:
    report = make_ingest(store, folder, embedder=None).run([folder / "docs"])
    assert report.embedded == store.stats().vectors == 0
    assert store.match('"ferry"', 3)
    assert store.check() == []


def test_real_parsers_give_the_same_corpus(folder: Path, store: Store) -> None:
    (folder / "docs/notes.md").write_text("# Fares\n\nA child travels at half price.\n")
    age(folder / "docs")
    ingest = make_ingest(store, folder, parsers=lambda: ParserPool(1))
    assert ingest.run([folder / "docs"]).added == 13
    assert ingest.run([folder / "docs"]).unchanged == 13
    (child,) = [c for c in store.chunks("docs/notes.md") if "half price" in c.text]
    assert child.headings in ((), ("Fares",))
    assert store.check() == []


def test_headings_are_embedded_but_not_part_of_the_content(folder: Path, store: Store) -> None:
    for name in ("Ferries", "Trains"):
        (folder / f"docs/{name}.md").write_text(f"# {name}\n\nA child travels at half price.\n")
    counter = named_counter("words")
    chunker = chunkers.build("structural", size=8, counter=counter)
    ingest = make_ingest(store, folder, parsers=lambda: ParserPool(1), chunker=chunker)
    ingest.run([folder / "docs/Ferries.md", folder / "docs/Trains.md"])
    stats = store.stats()
    assert stats.vectors >= stats.contents


def test_memory_of_a_run_is_bounded_by_batches(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    plain = Store.replace

    def replace(self: Store, batch: Any, vectors: Any, **options: Any) -> Any:
        sizes.append(sum(len(item.chunks) for item in batch))
        return plain(self, batch, vectors, **options)

    monkeypatch.setattr(Store, "replace", replace)
    ingest: Ingest = make_ingest(store, folder, batch_chunks=4)
    ingest.run([folder / "docs"])
    assert len(sizes) > 3
    assert max(sizes) <= 4 + max(info.chunks for info in store.documents(Filter()))


def test_serial_parsers_stand_in_for_the_pool(folder: Path) -> None:
    """The stand-in of these tests gives what the real pool gives."""
    from chunkwise.rag.parsing.files import walk
    from chunkwise.rag.parsing.worker import Job

    jobs = [job for job in walk([folder / "docs"]) if isinstance(job, Job)][:3]
    with ParserPool(1) as pool:
        real = [dataclasses.replace(p, seconds=0) for p in pool.parse_all(jobs)]
    ours = list(SerialParsers().parse_all(jobs, known={}))
    for one, other in zip(real, ours, strict=True):
        assert (one.name, one.source_hash, one.size_bytes, one.mtime_ns) == (
            other.name, other.source_hash, other.size_bytes, other.mtime_ns,
        )  # fmt: skip
        assert one.document is not None
        assert other.document is not None
        assert one.document.text == other.document.text


def test_an_embedder_of_another_kind_leaves_the_old_one_searchable_until_done(
    folder: Path, store: Store
) -> None:
    make_ingest(store, folder).run([folder / "docs"])
    other = HashingEmbedder(dim=48)
    ingest = make_ingest(
        store, folder, embedder=other, recipe={**RECIPE, "embed": "2"}, batch_chunks=1
    )

    def look(progress: Progress) -> None:
        if progress.done == 5:
            assert store.matrices(HashingEmbedder(dim=32).fingerprint)

    ingest.embed_missing(progress=look)
    assert store.matrices(other.fingerprint)
