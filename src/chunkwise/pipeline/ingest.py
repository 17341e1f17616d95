"""From files to a searchable corpus: walk, parse, cut, embed, store.

What has not changed is not done again: a file of known size and time is not read, one of known
bytes is not parsed, a known text is not embedded. When only the chunker has changed, documents
are cut again from their stored text; when only the embedder has, they are not cut again.
Documents are stored in batches, each in one transaction, so a run that is killed keeps what it
stored, and the next run goes on from there.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from chunkwise.errors import ChunkwiseError, ConfigError, RequestError, StoreError
from chunkwise.pipeline.forms import Embeddable, Forms
from chunkwise.pipeline.reports import IngestReport, Progress
from chunkwise.rag.chunking import Chunker, cut
from chunkwise.rag.parsing.files import Skipped, document_name, walk
from chunkwise.rag.parsing.worker import Job, Limits, Parsed, ParserPool
from chunkwise.store import DocumentInfo, Store
from chunkwise.types import Chunk, Document, Embedder, TokenCounter

_log = logging.getLogger(__name__)

T = TypeVar("T")

_FRESH_NS = 2_000_000_000  # a file may change once more within its time stamp's grain
_TARGET_S = 2.0  # time between commits, so that little is lost when a run is stopped
_FIRST_CHUNKS, _MIN_CHUNKS = 512, 64  # of a batch
_MAX_CHARS = 8_000_000
_SURROGATES = re.compile("[\ud800-\udfff]")


class Ingest:
    """Puts documents into a store.

    Args:
        store: Where they go.
        root: Names of documents are paths relative to this folder; None: as given.
        chunker: Cuts documents.
        counter: The chunker's.
        embedder: Makes vectors; None: none are made.
        recipe: One fingerprint a stage: `parse`, `chunk`, `embed`.
        forms: What is embedded, with the same embedder; None: texts behind their headings.
        workers: Processes that parse.
        limits: What one file may take.
        batch_chunks: Most chunks stored in one transaction, a larger document excepted; batches
            are smaller where embedding is slow.
        parsers: Makes the parsers of a run; by default a `ParserPool`.
        lender: Another store, whose vectors are taken where it has them.
    """

    def __init__(
        self,
        store: Store,
        *,
        chunker: Chunker,
        counter: TokenCounter,
        embedder: Embedder | None,
        recipe: Mapping[str, str],
        root: Path | None = None,
        forms: Forms | None = None,
        workers: int = 2,
        limits: Limits | None = None,
        batch_chunks: int = 8192,
        parsers: Callable[[], ParserPool] | None = None,
        lender: Store | None = None,
    ) -> None:
        self.store, self.root, self.lender = store, root, lender
        self.chunker, self.counter, self.embedder = chunker, counter, embedder
        self.recipe = dict(recipe)
        if batch_chunks < 1:
            raise ConfigError(f"`batch_chunks` must be at least 1, got {batch_chunks!r}.")
        self.report = IngestReport()
        self._parsers = parsers or functools.partial(ParserPool, workers, limits)
        self._max_chunks = batch_chunks
        self._batch_chunks = min(_FIRST_CHUNKS, batch_chunks)
        self.forms = None if embedder is None else forms or Forms.by_default(counter, embedder)

    def run(
        self,
        paths: Iterable[Path | str],
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        prune: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> IngestReport:
        """Bring the store up to date with files and folders.

        When it is stopped, by Ctrl-C or an error, the batch at hand is left out and what was
        stored before stays; `self.report` then says what was done.

        Args:
            paths: Files and folders.
            include: Glob patterns that files of folders must match; empty: all do.
            exclude: Glob patterns that files and folders must not match.
            prune: Remove documents below `paths` whose files are gone.
            progress: Called after each document.
        """
        self.report, started = IngestReport(), time.perf_counter()
        given = [Path(path) for path in paths]
        try:
            with self.store.writing():
                options = {"include": include, "exclude": exclude}
                found = walk(given, root=self.root, leave_out=[self.store.folder], **options)
                jobs = self._jobs(found, prune)
                self._store(self._prepared(jobs), len(jobs), progress)
                if prune:
                    self._prune(given)
        finally:
            self.report.seconds["total"] = time.perf_counter() - started
        return self.report

    def embed_missing(self, *, progress: Callable[[Progress], None] | None = None) -> int:
        """Make the vectors that documents lack, from their stored chunks; gives how many.

        Goes on where it was stopped. At its end vectors of other embedders are dropped.

        Raises:
            ChunkwiseError: Some documents could not be embedded; the others were.
        """
        if self.embedder is None:
            raise ChunkwiseError("There is no embedder to embed with.")
        self.report, started = IngestReport(), time.perf_counter()
        with self.store.writing():
            lacking = set(self.store.lacking_vectors(self.embedder.fingerprint))
            wanted = self.recipe.get("embed")
            stale = [
                info
                for info in self.store.documents()
                if info.name in lacking or info.recipe.get("embed") != wanted
            ]
            again = ((info.name, self._embeddable(info)) for info in stale)
            self._store(again, len(stale), progress)
            if self.report.failed:
                name, reason = self.report.failed[0]
                raise ChunkwiseError(
                    f"{len(self.report.failed)} documents were not embedded, {name!r} among them: "
                    f"{reason} The others are."
                )
            self.store.drop_vectors(keep=self.embedder.fingerprint)
        self.report.seconds["total"] = time.perf_counter() - started
        return self.report.embedded

    def recut(
        self,
        source: Store | None = None,
        *,
        progress: Callable[[Progress], None] | None = None,
    ) -> IngestReport:
        """Cut and embed documents by the recipe from their stored text; no file is read.

        Args:
            source: The store then holds the documents of this one; None: its own.
            progress: Called after each document.
        """
        self.report, started = IngestReport(), time.perf_counter()
        given = source or self.store
        with self.store.writing():
            infos = given.documents()
            made = ((info.name, self._made_again(info, given)) for info in infos)
            self._store(made, len(infos), progress)
            gone = {info.name for info in self.store.documents()} - {info.name for info in infos}
            if gone:
                self.report.chunks += self.store.remove(gone)
                self.report.removed = len(gone)
        self.report.seconds["total"] = time.perf_counter() - started
        return self.report

    def _jobs(self, found: Iterable[Job | Skipped], prune: bool) -> list[Job]:
        jobs = []
        for item in found:
            if isinstance(item, Job):
                jobs.append(item)
            elif item.is_unsupported:
                self.report.skipped.append((item.name, item.error))
            elif not (prune and self._is_gone(item.name) and self.store.info(item.name)):
                self.report.failed.append((item.name, item.error))
        return jobs

    def _prepared(self, jobs: Sequence[Job]) -> Iterator[tuple[str, Embeddable | None]]:
        """Each job's document, ready to be stored; None: nothing to store."""
        with self._parsers() as pool:
            known = _KnownHashes(self.store, self.recipe)
            unread: list[Job] = []
            for job in jobs:
                info = self.store.info(job.name)
                if info is None or not self._is_parsed(job, info):
                    unread.append(job)
                    continue
                yield job.name, self._made_again(info)
            results = pool.parse_all(unread, known=known)
            for parsed in _timed(results, self.report.seconds, "parse"):
                yield parsed.name, self._from_parser(parsed)

    def _is_parsed(self, job: Job, info: DocumentInfo) -> bool:
        """Whether size and time say that the file is as it was parsed."""
        try:
            status = os.stat(job.path)
        except OSError:
            return False  # the parser says what is wrong
        same = (status.st_size, status.st_mtime_ns) == (info.size_bytes, info.mtime_ns)
        return same and info.recipe.get("parse") == self.recipe.get("parse")

    def _from_parser(self, parsed: Parsed) -> Embeddable | None:
        report = self.report
        mtime_ns = 0 if time.time_ns() - parsed.mtime_ns < _FRESH_NS else parsed.mtime_ns
        if parsed.unchanged and (info := self.store.info(parsed.name)) is not None:
            size = parsed.size_bytes
            if (info.size_bytes, info.mtime_ns) != (size, mtime_ns):
                self.store.touch(parsed.name, size_bytes=size, mtime_ns=mtime_ns)
                info = dataclasses.replace(info, size_bytes=size, mtime_ns=mtime_ns)
            return self._made_again(info)
        if parsed.document is None:
            report.failed.append((parsed.name, parsed.error or "gave no document"))
            return None
        report.warnings += [f"{parsed.name}: {warning}" for warning in parsed.document.warnings]
        return self._cut(
            _without_surrogates(parsed.document),
            source_hash=parsed.source_hash,
            size_bytes=parsed.size_bytes,
            mtime_ns=mtime_ns,
        )

    def _made_again(self, info: DocumentInfo, source: Store | None = None) -> Embeddable | None:
        """A stored document cut or embedded anew, as its recipe demands; None: it is up to date.

        Args:
            info: As `source` has it; None: as the own store has it.
            source: Where its text is.
        """
        mine = self.store.info(info.name)
        changed = self._changed(info, mine)
        if not changed:
            self.report.unchanged += 1
            return None
        try:
            if mine is not None and "chunk" not in changed:
                return self._embedded_again(mine)
            document = (source or self.store).load(info.name)
        except (StoreError, RequestError) as error:  # one document must not stop the others
            self.report.failed.append((info.name, str(error)))
            return None
        return self._cut(
            document,
            source_hash=info.source_hash,
            size_bytes=info.size_bytes,
            mtime_ns=info.mtime_ns,
            recipe={**self.recipe, "parse": info.recipe.get("parse", "")},
        )

    def _changed(self, info: DocumentInfo, mine: DocumentInfo | None) -> set[str]:
        """Stages whose recipe the stored document was not made by, parsing left out; all of them
        if it was made from other bytes than `info` says, or is not stored."""
        stages = self.recipe.keys() - {"parse"}
        made_from = None if mine is None else (mine.source_hash, mine.recipe.get("parse"))
        if mine is None or made_from != (info.source_hash, info.recipe.get("parse")):
            return set(stages)
        return {stage for stage in stages if mine.recipe.get(stage) != self.recipe[stage]}

    def _embeddable(self, info: DocumentInfo) -> Embeddable | None:
        """A stored document to be embedded anew; None: it cannot be, which is reported."""
        try:
            return self._embedded_again(info)
        except (StoreError, RequestError) as error:  # one document must not stop the others
            self.report.failed.append((info.name, str(error)))
            return None

    def _embedded_again(self, info: DocumentInfo) -> Embeddable:
        return self._prepare(
            self.store.load(info.name),
            self.store.chunks(info.name),
            source_hash=info.source_hash,
            size_bytes=info.size_bytes,
            mtime_ns=info.mtime_ns,
            recipe={**info.recipe, **{k: v for k, v in self.recipe.items() if k == "embed"}},
        )

    def _cut(
        self,
        document: Document,
        *,
        source_hash: str,
        size_bytes: int,
        mtime_ns: int,
        recipe: Mapping[str, str] | None = None,
    ) -> Embeddable | None:
        started = time.perf_counter()
        try:
            spans = self.chunker.split(document)
            chunks = cut(document, spans, self.counter, size=self.chunker.size)
            self._spent("cut", started)
            return self._prepare(
                document,
                chunks,
                source_hash=source_hash,
                size_bytes=size_bytes,
                mtime_ns=mtime_ns,
                recipe=recipe,
            )
        except RequestError as exc:  # a model that helps to cut or to enrich cannot read it
            self.report.failed.append((document.name, str(exc)))
            return None

    def _prepare(
        self,
        document: Document,
        chunks: Sequence[Chunk],
        *,
        source_hash: str,
        size_bytes: int,
        mtime_ns: int,
        recipe: Mapping[str, str] | None = None,
    ) -> Embeddable:
        started = time.perf_counter()
        forms = [] if self.forms is None else self.forms.of(document, chunks)
        ids = [form.key for form in forms]
        self._spent("embed", started)
        made_by = self.recipe if recipe is None else recipe
        sizes = (size_bytes, mtime_ns)
        return Embeddable(document, chunks, ids, made_by, source_hash, *sizes, forms=forms)

    def _store(
        self,
        prepared: Iterable[tuple[str, Embeddable | None]],
        total: int,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        """Store documents in batches bounded by chunks and characters."""
        batch: list[Embeddable] = []
        num_chunks = num_chars = 0
        for done, (name, item) in enumerate(prepared, 1):
            if item is not None:
                batch.append(item)
                num_chunks += len(item.chunks)
                num_chars += len(item.document.text)
            if num_chunks >= self._batch_chunks or num_chars >= _MAX_CHARS:
                self._commit(batch)
                batch, num_chunks, num_chars = [], 0, 0
            if progress is not None:
                progress(Progress(done, total, name))
        if batch:
            self._commit(batch)

    def _commit(self, batch: Sequence[Embeddable]) -> None:
        """Embed what is new in a batch, and store all of it."""
        started = time.perf_counter()
        vectors = self._embed(batch)
        self._spent("embed", started)
        storing = time.perf_counter()
        fingerprint = "" if self.embedder is None else self.embedder.fingerprint
        num_new = sum(self.store.info(item.document.name) is None for item in batch)
        self.report.chunks += self.store.replace(batch, vectors, fingerprint=fingerprint)
        self.report.added += num_new
        self.report.updated += len(batch) - num_new
        self._spent("store", storing)
        num_chunks = sum(len(item.chunks) for item in batch)
        rate = num_chunks / max(time.perf_counter() - started, 1e-3)
        self._batch_chunks = int(min(max(rate * _TARGET_S, _MIN_CHUNKS), self._max_chunks))

    def _embed(self, batch: Sequence[Embeddable]) -> dict[str, NDArray[np.float32]]:
        """Vectors of the forms that have none yet, each once: lent ones, and new ones."""
        if self.forms is None:
            return {}
        forms = {
            key: form
            for item in batch
            for key, form in zip(item.embed_ids, item.forms, strict=True)
        }
        fingerprint = self.forms.situator.embedder.fingerprint
        missing = self.store.missing_vectors(forms, fingerprint)
        lent = self.lender.vectors(missing, fingerprint) if self.lender else {}
        made = self.forms.vectors(
            [form for key, form in forms.items() if key in missing - lent.keys()]
        )
        self.report.embedded += len(made)
        return lent | made

    def _prune(self, given: Sequence[Path]) -> None:
        """Remove documents below the given paths whose files are gone."""
        names = {document_name(path, self.root) for path in given}
        # Below a given folder that is not there itself, a disk may be missing and not its files.
        tops = [document_name(path, self.root) for path in given if path.exists()]
        gone = [
            info.name
            for info in self.store.documents()
            if (info.name in names or any(_is_below(info.name, top) for top in tops))
            and self._is_gone(info.name)
        ]
        if gone:
            self.report.chunks += self.store.remove(gone)
            self.report.removed += len(gone)

    def _is_gone(self, name: str) -> bool:
        try:
            os.lstat(os.path.join(self.root or "", name))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False  # it cannot be told, so it is not removed
        return False

    def _spent(self, stage: str, started: float) -> None:
        spent = time.perf_counter() - started
        self.report.seconds[stage] = self.report.seconds.get(stage, 0.0) + spent


class _KnownHashes(Mapping[str, str]):
    """Hash of each document's source, looked up when asked for; none if it must be parsed anew."""

    def __init__(self, store: Store, recipe: Mapping[str, str]) -> None:
        self._store, self._recipe = store, recipe

    def __getitem__(self, name: str) -> str:
        info = self._store.info(name)
        if info is None or info.recipe.get("parse") != self._recipe.get("parse"):
            raise KeyError(name)
        return info.source_hash

    def __iter__(self) -> Iterator[str]:
        return (info.name for info in self._store.documents())

    def __len__(self) -> int:
        return len(self._store.documents())


def _timed(items: Iterable[T], seconds: dict[str, float], stage: str) -> Iterator[T]:
    """The items, with the time that was waited for them added up."""
    iterator = iter(items)
    while True:
        started = time.perf_counter()
        try:
            item = next(iterator)
        except StopIteration:
            return
        finally:
            seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - started
        yield item


def _without_surrogates(document: Document) -> Document:
    """The document with half surrogate pairs, which are no text, replaced one for one."""
    text, count = _SURROGATES.subn("\ufffd", document.text)
    if not count:
        return document
    _log.info("%s: %d half surrogate pairs replaced by U+FFFD", document.name, count)
    return dataclasses.replace(document, text=text)


def _is_below(name: str, top: str) -> bool:
    if top == ".":
        return not name.startswith("/")
    return name == top or name.startswith(f"{top.rstrip('/')}/")
