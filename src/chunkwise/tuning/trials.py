"""Configurations measured for real: a corpus for each way to cut and embed, asked in every way."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from chunkwise import __version__
from chunkwise.config import FIELDS
from chunkwise.errors import ConfigError
from chunkwise.evaluation.chunking import deepened, place_of
from chunkwise.evaluation.spans import (
    Chunking,
    Place,
    SpanCase,
    score_case,
    score_spans,
)
from chunkwise.pipeline.corpus import Corpus
from chunkwise.pipeline.parts import Parts
from chunkwise.pipeline.recipes import derive
from chunkwise.pipeline.reports import Progress
from chunkwise.prompting import passage_cost
from chunkwise.store import Store
from chunkwise.tuning.halving import Deadline, OutOfTime, Row
from chunkwise.tuning.journal import Journal
from chunkwise.tuning.measures import ASKED, budgets_of
from chunkwise.tuning.space import STORED, Configuration
from chunkwise.types import Budget, Hit, Query

_SLICE: Final = 32
"""Questions of one line of the journal: so many are lost at most when a run is killed."""
_NAME: Final = re.compile("[0-9a-f]{16}")  # of a corpus that was made here


class Trials:
    """Measures configurations over the documents of a corpus, which stays as it is.

    Args:
        corpus: The corpus, with the present settings.
        metric: The measure that is maximised.
        folder: Where corpora for other settings live while they are needed.
        journal: What was measured before is not measured again.
        deadline: When to stop, between two documents or questions.
    """

    def __init__(
        self, corpus: Corpus, metric: str, folder: Path, journal: Journal, deadline: Deadline
    ) -> None:
        self.corpus, self.folder = corpus, folder
        self.journal, self.deadline = journal, deadline
        self._budgets = budgets_of(metric)
        self._documents = _digest(
            [[d.name, d.source_hash, d.recipe.get("parse")] for d in corpus.documents()]
        )
        self._recipes: dict[str, Mapping[str, str]] = {}
        self._longest_s = 0.0  # that a corpus has taken to make
        self._unfinished: Path | None = None

    def evaluate(self, configuration: Configuration, cases: Sequence[SpanCase]) -> Sequence[Row]:
        """A row of measures for each question.

        Beside those of `score_case`, of the best `passages` chunks: `sent_recall`,
        `sent_precision` and `sent_iou` of the passages that would be sent, `sent_tokens`, and
        `ms`, the time of one search.

        Raises:
            OutOfTime: With the rows of the first questions, as far as they are known.
        """
        key, questions = self.key(configuration), [question_key(case) for case in cases]
        missing = [i for i, q in enumerate(questions) if q not in self.journal.rows(key)]
        try:
            if missing:
                self._measure(configuration, key, [cases[i] for i in missing])
        except OutOfTime as exc:
            raise OutOfTime(self._known_first(key, questions)) from exc
        return self._known_first(key, questions)

    def sizes(self, configuration: Configuration) -> Mapping[str, float]:
        """`chunks`, `mean_tokens` and `index_bytes` of one that was measured."""
        return self.journal.sizes(self.key(configuration))

    def key(self, configuration: Configuration) -> str:
        """What tells this configuration over these documents from all others."""
        present = self.corpus.settings
        values = {
            name: configuration.changes.get(name, getattr(present, name))
            for name in (*STORED, *ASKED, "counter", "model", "base_url")
        }
        recipe = self._recipe(configuration)
        return _digest([values, recipe, self._documents, self._budgets, __version__])

    def _recipe(self, configuration: Configuration) -> Mapping[str, str]:
        """Fingerprints of what cuts and embeds: a model in a folder may be another one now."""
        stored = Configuration(configuration.stored)
        if stored.key not in self._recipes:
            present = self.corpus
            parts = Parts(dataclasses.replace(present.settings, **stored.changes))
            parts.borrow_embedder(present.parts)
            self._recipes[stored.key] = parts.recipe()
        return self._recipes[stored.key]

    def keep_only(self, configurations: Sequence[Configuration]) -> None:
        """Remove the corpora that none of these needs."""
        needed = {self._folder_of(one) for one in configurations}
        for folder in self._folders():
            if folder not in needed:
                shutil.rmtree(folder)

    def remove_all(self) -> None:
        """Remove all corpora that were made; one that is half made stays for the next run."""
        for folder in self._folders():
            if folder != self._unfinished:
                shutil.rmtree(folder)

    def _measure(self, configuration: Configuration, key: str, cases: Sequence[SpanCase]) -> None:
        self.deadline.check()
        with self._opened(configuration) as opened:
            sizes = _sizes(opened)
            about = {"version": __version__, "configuration": dict(configuration.changes)}
            rows: dict[str, Row] = {}
            try:
                for case, row in self._rows(opened, cases):
                    rows[question_key(case)] = row
                    if len(rows) == _SLICE:
                        self.journal.append(key, rows, sizes, about)
                        rows = {}
            finally:
                if rows:
                    self.journal.append(key, rows, sizes, about)

    def _rows(self, opened: Corpus, cases: Sequence[SpanCase]) -> Iterator[tuple[SpanCase, Row]]:
        names = [info.name for info in opened.documents()]
        chunks = ((name, opened.store.chunks(name)) for name in names)
        chunking = Chunking(Place(name, c.span) for name, some in chunks for c in some)
        for case in cases:
            self.deadline.check()
            yield case, measure(opened, case, chunking, self._budgets)

    def _opened(self, configuration: Configuration) -> Corpus:
        """The corpus that a configuration asks; it is made if it is not there."""
        wanted = self._asked(configuration)
        if not configuration.stored and _is_current(self.corpus):
            return self._lent(Corpus(self.corpus.folder, **self._present_recipe(), **wanted))
        folder = self._folder_of(configuration)
        self.deadline.check(0.0 if Store.exists(folder) else self._longest_s)
        started, self._unfinished = time.monotonic(), folder
        stored = {**self._present_recipe(), **configuration.stored}
        with derive(self.corpus, folder, progress=self._on_document, **stored) as made:
            check_whole(self.corpus, made, configuration)
        self._longest_s = max(self._longest_s, time.monotonic() - started)
        self._unfinished = None
        return self._lent(Corpus(folder, **stored, **wanted))

    def _lent(self, opened: Corpus) -> Corpus:
        """The corpus, with the embedder of the present settings if it is the same."""
        opened.parts.borrow_embedder(self.corpus.parts)
        return opened

    def _on_document(self, progress: Progress) -> None:
        if progress.done < progress.total:
            self.deadline.check()

    def _asked(self, configuration: Configuration) -> dict[str, Any]:
        """All settings but those of the recipe that are not defaults, so that they hold in any
        folder; `auto` may become another thing with another embedder."""
        present, sources = self.corpus.settings, self.corpus.resolved.sources
        recipe = {*STORED, "counter"}
        given = {
            name: getattr(present, name)
            for name in FIELDS
            if name not in recipe and sources[name] != "default"
        }
        changes = {k: v for k, v in configuration.changes.items() if k not in recipe}
        return given | changes

    def _present_recipe(self) -> dict[str, Any]:
        return {name: getattr(self.corpus.settings, name) for name in (*STORED, "counter")}

    def _folder_of(self, configuration: Configuration) -> Path:
        recipe = {**self._present_recipe(), **configuration.stored}
        return self.folder / _digest([recipe, __version__])[:16]

    def _folders(self) -> list[Path]:
        """Folders of corpora; nothing else in the folder is touched."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return [path for path in found if _NAME.fullmatch(path.name) and Store.exists(path)]

    def _known_first(self, key: str, questions: Sequence[str]) -> list[Row]:
        """Rows up to the first question that has none."""
        known = self.journal.rows(key)
        rows = []
        for question in questions:
            if question not in known:
                break
            rows.append(known[question])
        return rows


def check_whole(corpus: Corpus, made: Corpus, configuration: Configuration) -> None:
    """Refuse a configuration that leaves documents out: what is in them would count as not found.

    Raises:
        ConfigError: It does.
    """
    lacking = {info.name for info in corpus.documents()} - {info.name for info in made.documents()}
    if lacking:
        raise ConfigError(
            f"With {configuration} {len(lacking)} documents cannot be cut, {min(lacking)!r} among "
            "them; leave that out of the space."
        )


def question_key(case: SpanCase) -> str:
    """What tells a question with its answer from others."""
    places = [[place.document, *place.span] for place in case.references]
    return _digest([case.question, places])[:20]


def check_corpus(corpus: Corpus, configurations: Sequence[Configuration]) -> None:
    """Refuse a derived corpus, and documents that every configuration leaves in one piece.

    Raises:
        ConfigError: It is one, or they are so short.
        StoreError: There is no corpus.
    """
    corpus.stats()
    if corpus.origin is not None:
        raise ConfigError(
            f"{corpus.folder} is a recipe of {corpus.origin}; tune that corpus (--corpus "
            f"{corpus.origin}), whose documents its configurations are made from."
        )
    present = corpus.settings.size
    least = min([present, *(one.changes.get("size", present) for one in configurations)])
    chunks = [c for info in corpus.documents() for c in corpus.store.chunks(info.name)]
    tokens = sum(chunk.tokens for chunk in chunks)
    if len(chunks) < 2 and tokens <= least:
        raise ConfigError(
            f"The corpus holds {len(chunks)} chunk of {tokens} tokens, and every configuration "
            f"would leave it so: there is nothing to tune. Add documents of more than {least} "
            "tokens."
        )


def measure(opened: Corpus, case: SpanCase, chunking: Chunking, budgets: Sequence[int]) -> Row:
    """All measures of a question, put to the search of a corpus as `ask` puts it.

    Args:
        opened: The corpus.
        case: The question.
        chunking: All its chunks.
        budgets: Tokens of `recall_at_<budget>`.
    """
    settings = opened.settings
    started = time.perf_counter()
    hits = opened.search(case.question, settings.candidates)
    ms = (time.perf_counter() - started) * 1000
    best = [place_of(hit) for hit in hits[: settings.passages]]
    ranked = deepened(opened, case.question, hits, settings.candidates, max(budgets))
    row = score_case(case.references, best, ranked, chunking, budgets=budgets)
    return {**row, **_sent(opened, case, hits), "ms": ms}


def _sent(opened: Corpus, case: SpanCase, hits: list[Hit]) -> Row:
    """What would be sent for a question."""
    settings = opened.settings
    budget = Budget(settings.budget_tokens, settings.passages)
    sent = opened.parts.selector.select(Query(case.question), hits, budget)
    scores = score_spans(case.references, [place_of(hit) for hit in sent], Chunking([]))
    cost = passage_cost(opened.parts.counter)
    return {
        "sent_recall": scores.recall,
        "sent_precision": scores.precision,
        "sent_iou": scores.iou,
        "sent_tokens": float(sum(cost(hit) for hit in sent)),
    }


def _sizes(opened: Corpus) -> dict[str, float]:
    """How large a corpus is; chunks of a corpus with many documents are counted in the database."""
    stats = opened.stats()
    tokens = [c.tokens for info in opened.documents() for c in opened.store.chunks(info.name)]
    return {
        "chunks": float(stats.chunks),
        "mean_tokens": sum(tokens) / max(len(tokens), 1),
        "index_bytes": float(stats.database_bytes + stats.vector_bytes),
    }


def _is_current(corpus: Corpus) -> bool:
    """Whether all documents are stored as the present settings say."""
    recipe = corpus.parts.recipe()
    return all(dict(info.recipe) == recipe for info in corpus.documents())


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
