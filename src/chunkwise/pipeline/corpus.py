"""`chunkwise.open(folder)`: one corpus, from documents to cited answers."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from chunkwise import config
from chunkwise.errors import ConfigError, DocumentError, StoreError
from chunkwise.pipeline.ask import Ask
from chunkwise.pipeline.ingest import Ingest
from chunkwise.pipeline.parts import Parts
from chunkwise.pipeline.paths import check_paths
from chunkwise.pipeline.reports import IngestReport, Progress
from chunkwise.pipeline.tidying import tidy
from chunkwise.rag.parsing.files import document_name
from chunkwise.rag.parsing.worker import Job, Limits, ParserPool
from chunkwise.rag.retrieval.dense import DenseRetriever
from chunkwise.registry import spec_name
from chunkwise.store import Changes, DocumentInfo, Problem, Stats, Store
from chunkwise.types import Answer, Document, Filter, Hit, Query

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chunkwise.pipeline.fidelity import Reusing
    from chunkwise.pipeline.forms import Enrichment
    from chunkwise.pipeline.warming import IdleWarming, Warmed

DEFAULT_FOLDER = ".chunkwise"
CHUNK_FOLDER = "kv"
RECIPE_FOLDER = "recipes"
RECIPE_KEY = "recipe"
ORIGIN_KEY = "origin"


class Corpus:
    """Documents, chunks and vectors in one folder, and questions over them.

    Use it as a context manager, or call `close`. Several processes may read one folder while
    one writes.

    Args:
        folder: The corpus folder; made by the first `add`.
        **settings: Any of `chunkwise.config.Settings`.

    Attributes:
        origin: Folder of the corpus that it is derived from, or None; see `pipeline.recipes`.

    Raises:
        ConfigError: An unknown setting or a bad value.
        StoreError: The folder holds a damaged corpus, or one of a newer version.
    """

    def __init__(self, folder: str | os.PathLike[str] = DEFAULT_FOLDER, **settings: Any) -> None:
        self.folder = Path(folder)
        self._store: Store | None = None
        self.origin = self._stored_origin()
        self.resolved = config.load(
            self.folder, recipe=self._stored_recipe(), arguments=settings, origin=self.origin
        )
        self.parts = Parts(self.resolved.settings, (self.origin or self.folder) / CHUNK_FOLDER)

    @property
    def settings(self) -> config.Settings:
        """The settings in force, with no `auto` left."""
        return self.resolved.settings

    @property
    def store(self) -> Store:
        """The corpus on disk, opened on first use.

        Raises:
            StoreError: There is none yet, or it cannot be opened.
        """
        if self._store is None:
            self._store = Store.open(self.folder)
        return self._store

    def add(
        self,
        *paths: str | os.PathLike[str],
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        prune: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> IngestReport:
        """Add or update files and folders; what has not changed is not read again.

        Each document is committed as a whole: what was added stays when the rest is stopped.

        Args:
            *paths: Files and folders. A document is named by its path from the folder that
                holds the corpus, or by its absolute path when it lies elsewhere.
            include: Glob patterns; only files that match one are taken.
            exclude: Glob patterns; files that match one are left out.
            prune: Remove documents below `paths` whose files are gone.
            progress: Called after each document.

        Raises:
            CorpusLockedError: Another process is writing.
            IndexMismatchError: The corpus was embedded with another embedder.
        """
        if self.origin is not None:
            raise ConfigError(
                f"This corpus is a recipe of {str(self.origin)!r}: add documents there, then run "
                "`chunkwise recipe update`."
            )
        # Build what is named before anything is stored, so that a wrong name leaves nothing behind.
        self.parts.check()
        check_paths(self.folder, paths)
        if self._store is None:
            self._store = Store.open(self.folder, create=True)
        with self.store.writing(self.settings.lock_wait_s):
            ingest = self._ingest()
            self._remember_recipe()
            report = ingest.run(
                [Path(p) for p in paths],
                include=include,
                exclude=exclude,
                prune=prune,
                progress=progress,
            )
            self._tidy()
        return report

    def recut(
        self,
        source: Store | None = None,
        *,
        lender: Store | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> IngestReport:
        """Cut and embed all documents by the settings in force, from their stored text.

        Texts that are embedded as before keep their vectors. It goes on where it was stopped.

        Args:
            source: Its documents are held then; None: those that are.
            lender: A store whose vectors are taken where it has them.
            progress: Called after each document.
        """
        with self.store.writing(self.settings.lock_wait_s):
            ingest = self._ingest(lender)
            self._write_recipe(config.recipe_of(self.settings))
            report = ingest.recut(source, progress=progress)
            if not report.failed:  # what is stored of these may have vectors of another embedder
                self.store.drop_vectors(keep=self.parts.embedder.fingerprint)
            self._tidy()
        return report

    def recipe_folders(self) -> list[Path]:
        """Folders of the corpora that are derived from this one and live below it."""
        below = self.folder / RECIPE_FOLDER
        found = below.iterdir() if below.is_dir() else ()
        return sorted(folder for folder in found if Store.exists(folder))

    def embed(
        self, *, graph: bool = False, progress: Callable[[Progress], None] | None = None
    ) -> int:
        """Make the vectors that are missing for the embedder in force; returns how many.

        Run it after the embedder was changed. It goes on where it was stopped.

        Args:
            graph: Also build the graph that makes search over very many vectors quick and
                approximate; needs `chunkwise[ann]`. See `DenseRetriever.ann_rows`.
            progress: Called after each document.
        """
        with self.store.writing(self.settings.lock_wait_s):
            ingest = self._ingest()
            self._write_recipe({**self._stored_recipe(), **self._embedding_recipe()})
            count = ingest.embed_missing(progress=progress)
            self._tidy()
            if graph:
                DenseRetriever(self.store, self.parts.embedder).build_graphs()
        return count

    def remove(self, *names: str) -> Changes:
        """Remove documents by name; a name may be a glob pattern, or a path to the file.

        Raises:
            DocumentError: A name matches no document; nothing is removed then.
        """
        found = [name for given in names for name in self._matching(given)]
        with self.store.writing(self.settings.lock_wait_s):
            changes = self.store.remove(list(dict.fromkeys(found)))
            self._tidy()
        return changes

    def documents(self, filter: Filter | None = None) -> list[DocumentInfo]:
        """The documents of the corpus, by name."""
        return self.store.documents(filter or Filter())

    def document(self, name: str) -> Document:
        """One document as it was parsed: the text that all its offsets count.

        Raises:
            DocumentError: There is none of that name.
        """
        for known in (name, self._name_of(name)):
            if self.store.info(known) is not None:
                return self.store.load(known)
        raise DocumentError(name, "no such document in the corpus; see `chunkwise ls`")

    def enrichments(self, name: str) -> Sequence[Enrichment]:
        """For each chunk of a document, in order, what is embedded before its text: what each of
        `enrich` says of it, by name. It is made again from the document.

        Raises:
            DocumentError: There is none of that name.
        """
        document = self.document(name)
        return self.parts.forms.enrichments(document, self.store.chunks(document.name))

    def parse(self, path: str | os.PathLike[str]) -> Document:
        """A file as it would be parsed, without adding it.

        Raises:
            DocumentError: It cannot be read.
        """
        job = Job(self._name_of(os.fspath(path)), os.fspath(path))
        with ParserPool(1, self._limits()) as pool:
            (parsed,) = pool.parse_all([job])
        if parsed.document is None:
            raise DocumentError(os.fspath(path), parsed.error or "gave no document")
        return parsed.document

    def search(
        self,
        question: str,
        k: int = 10,
        *,
        paths: Iterable[str] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> list[Hit]:
        """At most `k` hits, best first.

        Args:
            question: What to look for; any text.
            k: Most hits.
            paths: Glob patterns over document names; only documents that match one answer.
            metadata: Pairs that a document's metadata must hold.
        """
        if k < 1:
            raise ConfigError(f"`k` must be at least 1, got {k!r}.")
        query = self._query(question, paths, metadata)
        return self._ask.search(query, k)

    def ask(
        self,
        question: str,
        *,
        paths: Iterable[str] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> Answer:
        """A cited answer, or one that says that nothing was found."""
        *_, answer = self.stream(question, paths=paths, metadata=metadata)
        if not isinstance(answer, Answer):
            raise AssertionError("an answerer ended without an answer")
        return answer

    def passages(self, question: str) -> list[Hit]:
        """The hits that an answer is made from, as the selector chooses them under the budget."""
        return self._ask.passages(self._query(question, (), None))

    def stream(
        self,
        question: str,
        *,
        history: Sequence[tuple[str, str]] = (),
        paths: Iterable[str] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> Iterator[str | Answer]:
        """Pieces of an answer as they come, and last the `Answer` with its citations.

        Args:
            question: The question.
            history: Questions and answers before it, oldest first.
            paths: As in `search`.
            metadata: As in `search`.
        """
        query = self._query(question, paths, metadata)
        return self._ask.stream(query, history)

    def warm(
        self,
        *,
        paths: Iterable[str] = (),
        progress: Callable[[Progress], None] | None = None,
    ) -> Warmed:
        """Let the local model read all chunks that it has not kept, until there is no more room.

        It goes on where it was stopped. Needs the setting `reuse`.

        Args:
            paths: Glob patterns over document names.
            progress: Called after some chunks, with the document they are of.

        Raises:
            ConfigError: No local model is set, or `reuse` is not.
        """
        from chunkwise.pipeline.warming import warm

        found = self.documents(Filter(tuple(paths)))
        return warm(self.parts, self.store, found, progress)

    @functools.cached_property
    def idle(self) -> IdleWarming:
        """`with corpus.idle:` wait for a question; a local model that is loaded and reuses chunks
        reads those that it has not kept meanwhile."""
        from chunkwise.pipeline.warming import IdleWarming

        return IdleWarming(self.parts, self.store)

    def pin(self, documents: Iterable[str], *, stay: bool = True) -> int:
        """Let the kept chunks of documents stay on disk, whatever the room and their age, or undo
        that; chunks that are read later too, but not those of a later version of a document.

        Args:
            documents: Names, files or patterns.
            stay: False undoes it.

        Returns:
            How many chunks that changed.

        Raises:
            DocumentError: There is no such document.
            ConfigError: The folder of the chunks cannot be written.
        """
        from chunkwise.llm.kv import disk

        names = {name for given in documents for name in self._matching(given)}
        chunks = {c.id for name in names for c in self.store.chunks(name)}
        assert self.parts.chunk_folder is not None, "a corpus has a folder"
        return (disk.pin if stay else disk.unpin)(self.parts.chunk_folder, chunks)

    def fidelity(self) -> Reusing:
        """With which policy the local model reuses chunks, if any, and how far its answers over
        them are from those of full prefill: its self-test, run once and kept.

        Raises:
            ConfigError: No local model is set, `reuse` is not, or the test does not fit the
                model's context.
        """
        from chunkwise.pipeline.warming import reusing_model

        reusing_model(self.parts)
        reusing = self.parts.reusing
        assert reusing is not None, "the model reuses chunks, or would"
        reusing.test()
        return reusing

    def stats(self) -> Stats:
        """How much there is of what, and bytes on disk."""
        return self.store.stats()

    def check(self) -> list[Problem]:
        """Everything that is wrong with the corpus on disk; an empty list when nothing is."""
        return self.store.check()

    def repair(self) -> list[str]:
        """Put right what can be; says what was done. Text is never dropped; vectors are remade."""
        with self.store.writing(self.settings.lock_wait_s):
            done = self.store.repair()
            if count := self._ingest().embed_missing():
                done.append(f"made {count} vectors again")
            if self.store.stats().dead_vectors and (dropped := self.store.compact()):
                done.append(f"dropped {dropped} vectors that nothing used")
        return done

    def close(self) -> None:
        """Close files; a later call opens them again. Answers that are due for it are given again
        before (`reuse_audit`)."""
        if self.parts.is_reusing:
            self.parts.audit()
        if self._store is not None:
            self._store.close()
            self._store = None
        self.__dict__.pop("_ask", None)
        self.__dict__.pop("idle", None)

    def __enter__(self) -> Corpus:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @functools.cached_property
    def _ask(self) -> Ask:
        return Ask(self.store, self.parts)

    def _query(
        self, question: str, paths: Iterable[str], metadata: Mapping[str, str] | None
    ) -> Query:
        if not isinstance(question, str) or not question.strip():
            raise ConfigError(f"The question must be text and not empty, got {question!r}.")
        return Query(question, Filter(tuple(paths), dict(metadata or {})))

    def _ingest(self, lender: Store | None = None) -> Ingest:
        s = self.settings
        return Ingest(
            self.store,
            root=self._root,
            chunker=self.parts.chunker,
            counter=self.parts.counter,
            embedder=self.parts.embedder,
            recipe=self.parts.recipe(),
            forms=self.parts.forms,
            workers=s.workers,
            limits=self._limits(),
            lender=lender,
        )

    def _limits(self) -> Limits:
        s = self.settings
        return Limits(s.parse_timeout_s, s.parse_memory_mb * 2**20, s.max_file_mb * 2**20)

    def _stored_recipe(self) -> dict[str, Any]:
        """The recipe the corpus was made with; empty when there is no corpus yet."""
        if not Store.exists(self.folder):
            return {}
        text = self.store.setting(RECIPE_KEY)
        return {} if text is None else dict(json.loads(text))

    def _stored_origin(self) -> Path | None:
        if not Store.exists(self.folder):
            return None
        text = self.store.setting(ORIGIN_KEY)
        return None if text is None else Path(os.path.normpath(self.folder.resolve() / text))

    @property
    def _root(self) -> Path:
        """What names of documents are relative to."""
        return (self.origin or self.folder).resolve().parent

    def _embedding_recipe(self) -> dict[str, Any]:
        """What `embed` changes; written first, so that a run that was stopped is gone on with."""
        recipe = config.recipe_of(self.settings)
        return {key: recipe[key] for key in config.EMBEDDING}

    def _tidy(self) -> None:
        tidy(self.store, self.folder / CHUNK_FOLDER, self.recipe_folders())

    def _remember_recipe(self) -> None:
        """The first `add` fixes the recipe of the corpus; a later one may change how it cuts."""
        stored, new = self._stored_recipe(), config.recipe_of(self.settings)
        if stored and stored["embedder"] != new["embedder"]:
            raise ConfigError(
                f"This corpus is embedded with {stored['embedder']!r}, not {new['embedder']!r}. "
                f"Change it with `chunkwise embed --embedder {spec_name(new['embedder'])}`, which "
                "keeps documents and chunks."
            )
        if stored != new:
            self._write_recipe(new)

    def _write_recipe(self, recipe: Mapping[str, Any]) -> None:
        self.store.put_setting(RECIPE_KEY, json.dumps(dict(recipe), sort_keys=True))

    def _matching(self, given: str) -> list[str]:
        """Names of documents meant by a name, a path to a file, or a pattern."""
        for name in (given, self._name_of(given)):
            if self.store.info(name) is not None:
                return [name]
        patterns = (given, f"{self._name_of(given)}/*")  # a folder means all below it
        found = [info.name for info in self.store.documents(Filter(paths=patterns))]
        if not found:
            raise DocumentError(given, "no such document in the corpus; see `chunkwise ls`")
        return found

    def _name_of(self, path: str) -> str:
        return document_name(Path(path), self._root)


def open_corpus(folder: str | os.PathLike[str] = DEFAULT_FOLDER, **settings: Any) -> Corpus:
    """Open the corpus in a folder; the first `add` makes it.

    Args:
        folder: The corpus folder.
        **settings: Any of `chunkwise.config.Settings`, e.g. `size=300`, `chunker="sentence"`.
    """
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise StoreError(f"{folder}: is a file; a corpus is a folder.")
    return Corpus(path, **settings)
