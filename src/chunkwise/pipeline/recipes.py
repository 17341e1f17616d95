"""Several recipes side by side: corpora made from the documents of one, cut and embedded otherwise.

A *recipe* is how a corpus is cut and embedded. A derived corpus holds the documents of its origin,
which are not parsed again, and lives in a folder below it; vectors of texts that both embed alike
are taken over, and what a local model keeps of chunks is shared. It is brought up to date by
deriving it again, and documents are added to the origin only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chunkwise import config
from chunkwise.errors import ConfigError, StoreError
from chunkwise.pipeline.corpus import ORIGIN_KEY, RECIPE_FOLDER, RECIPE_KEY, Corpus
from chunkwise.pipeline.parts import Parts
from chunkwise.pipeline.reports import IngestReport, Progress
from chunkwise.registry import nearest
from chunkwise.store import Store

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OF_THE_CORPUS = ("default", "corpus", "argument")  # not there when it is opened again
_OF_A_KILLED_RUN = {config.FILE_NAME, "vectors", "writer.lock"}
OWN = "."
"""What names the corpus itself where recipes are named."""


@dataclass(frozen=True, slots=True)
class Side:
    """One recipe of two that are compared.

    Attributes:
        chunks: Chunks as they stand in documents.
        mean_tokens: Their mean length; 0 where there are none.
        bytes: On disk: database and vectors.
    """

    chunks: int
    mean_tokens: float
    bytes: int


@dataclass(frozen=True, slots=True)
class RecipeDiff:
    """How two recipes differ.

    Attributes:
        settings: Those that differ, with both values.
        stages: Stages that differ: `parse`, `chunk`, `embed`.
        sides: Both.
        texts: Distinct texts of chunks in the first, in the second, in both.
    """

    settings: Mapping[str, tuple[Any, Any]]
    stages: tuple[str, ...]
    sides: tuple[Side, Side]
    texts: tuple[int, int, int]


def derive(
    corpus: Corpus,
    folder: Path,
    *,
    progress: Callable[[Progress], None] | None = None,
    on_report: Callable[[IngestReport], None] | None = None,
    **settings: Any,
) -> Corpus:
    """A corpus in `folder` with the documents of `corpus`, cut and embedded by other settings.

    A folder that was derived before is brought up to date; so is one that a killed run left.

    Args:
        corpus: The origin.
        folder: Where; made if it is not there.
        progress: Called after each document.
        on_report: Told what was done, and which documents could not be cut.
        **settings: Those that are not as the origin's. Settings that do not say what is stored
            (`retriever`, `passages` ...) are written into the folder's `chunkwise.toml`.

    Raises:
        ConfigError: An unknown setting, a bad value, or `folder` is no derived corpus.
        StoreError: `corpus` does not exist, or is derived itself.
    """
    _check_origin(corpus, folder)
    settings = {name: value for name, value in settings.items() if value is not None}
    stored = {name: value for name, value in settings.items() if name in config.RECIPE}
    others = {name: value for name, value in settings.items() if name not in config.RECIPE}
    wanted = {**config.recipe_of(corpus.settings), **stored}
    given = config.load(recipe=wanted, arguments=others, environ={}).settings
    parts = Parts(given)
    parts.borrow_embedder(corpus.parts)
    parts.check()  # a wrong name leaves nothing behind
    _begin(corpus, folder, wanted, others)
    with Corpus(folder, **wanted) as derived:
        derived.parts.borrow_embedder(parts)
        report = derived.recut(corpus.store, lender=corpus.store, progress=progress)
    if on_report is not None:
        on_report(report)
    made = Corpus(folder, **wanted)
    made.parts.borrow_embedder(parts)
    return made


def _begin(
    corpus: Corpus, folder: Path, recipe: Mapping[str, Any], others: Mapping[str, Any]
) -> None:
    """An empty corpus that knows its recipe and where it comes from; made anew if it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    if others:
        (folder / config.FILE_NAME).write_text(config.as_toml(others), encoding="utf-8")
    with Store.open(folder, create=True) as store:
        origin = os.path.relpath(corpus.folder.resolve(), folder.resolve())
        store.put_settings({ORIGIN_KEY: origin, RECIPE_KEY: json.dumps(recipe, sort_keys=True)})


def update(
    corpus: Corpus, name: str, *, progress: Callable[[Progress], None] | None = None
) -> IngestReport:
    """Bring a recipe up to date with the documents of the corpus."""
    folder = _known(corpus, name)
    with Corpus(folder, **stored_recipe(folder)) as derived:
        return derived.recut(corpus.store, lender=corpus.store, progress=progress)


def adopt(
    corpus: Corpus, name: str, *, progress: Callable[[Progress], None] | None = None
) -> IngestReport:
    """Cut and embed the corpus itself by a recipe, whose vectors are taken over.

    A run that is stopped leaves documents of both recipes; the next one goes on. Settings that do
    not say what is stored stay as they are in both.

    Raises:
        ConfigError: A file or variable sets what the recipe does otherwise.
    """
    folder = _known(corpus, name)
    recipe = stored_recipe(folder)
    _refuse_fixed(corpus, recipe)
    with (
        Store.open(folder) as lender,
        Corpus(corpus.folder, **recipe) as changed,
    ):
        return changed.recut(lender=lender, progress=progress)


def names(corpus: Corpus) -> list[str]:
    """Names of the recipes beside the corpus's own."""
    return [folder.name for folder in corpus.recipe_folders()]


def folder_of(corpus: Corpus, name: str) -> Path:
    """Where the recipe of a name lives, whether it is there or not.

    Raises:
        ConfigError: It is no name.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot name a recipe: letters, digits, '.', '-' and '_', at most 64, "
            "beginning with a letter or digit."
        )
    return corpus.folder / RECIPE_FOLDER / name


def open_recipe(corpus: Corpus, name: str, **settings: Any) -> Corpus:
    """The corpus of a recipe; `OWN` names the corpus itself.

    Raises:
        ConfigError: There is none of that name.
    """
    if name == OWN:
        return Corpus(corpus.folder, **settings)
    folder = _known(corpus, name)
    return Corpus(folder, **{**stored_recipe(folder), **settings})


def stored_recipe(folder: Path) -> dict[str, Any]:
    """The recipe that the corpus in a folder remembers, whatever the environment says."""
    with Store.open(folder) as store:
        return dict(json.loads(store.setting(RECIPE_KEY) or "{}"))


def _known(corpus: Corpus, name: str) -> Path:
    """The folder of the recipe of a name."""
    folder = folder_of(corpus, name)
    if not Store.exists(folder):
        known = names(corpus)
        there = f" There are: {', '.join(known)}." if known else " There is none yet."
        raise ConfigError(
            f"There is no recipe {name!r}.{nearest(name, known)}{there} `chunkwise recipe add` "
            "makes one."
        )
    return folder


def remove(corpus: Corpus, name: str) -> None:
    """Remove a recipe with all that was made by it; documents stay in the corpus."""
    if name == OWN:
        raise ConfigError("The corpus itself is no recipe beside it; remove its folder.")
    folder = _known(corpus, name)
    with Store.open(folder) as store, store.writing(corpus.settings.lock_wait_s):
        pass  # nobody is writing it
    shutil.rmtree(folder)


def compare(first: Corpus, second: Corpus) -> RecipeDiff:
    """How the recipes of two corpora differ, and what is stored by them."""
    mine, other = _shown(first), _shown(second)
    stages = zip(first.parts.recipe().items(), second.parts.recipe().values(), strict=True)
    texts, others = set(first.store.content_ids()), set(second.store.content_ids())
    return RecipeDiff(
        settings={n: (mine[n], other[n]) for n in mine if mine[n] != other[n]},
        stages=tuple(stage for (stage, one), two in stages if one != two),
        sides=(side_of(first), side_of(second)),
        texts=(len(texts), len(others), len(texts & others)),
    )


def side_of(corpus: Corpus) -> Side:
    """How much there is of a corpus."""
    stats = corpus.stats()
    tokens = [c.tokens for info in corpus.documents() for c in corpus.store.chunks(info.name)]
    mean = float(np.mean(tokens)) if tokens else 0.0
    return Side(stats.chunks, round(mean, 1), stats.database_bytes + stats.vector_bytes)


def _shown(corpus: Corpus) -> dict[str, Any]:
    return {name: getattr(corpus.settings, name) for name in config.FIELDS}


def _refuse_fixed(corpus: Corpus, recipe: Mapping[str, Any]) -> None:
    present, sources = config.recipe_of(corpus.settings), corpus.resolved.sources
    for key, value in recipe.items():
        if value != present[key] and sources[key] not in _OF_THE_CORPUS:
            raise ConfigError(
                f"{sources[key]} sets `{key}` to {present[key]!r}, the recipe to {value!r}; "
                "take it out there first."
            )


def _check_origin(corpus: Corpus, folder: Path) -> None:
    corpus.stats()  # says so where there is none
    if corpus.origin is not None:
        raise StoreError(
            f"{corpus.folder} is derived from {corpus.origin}; derive from that one instead."
        )
    if not Store.exists(folder):
        if folder.is_dir() and set(os.listdir(folder)) - _OF_A_KILLED_RUN:
            raise ConfigError(f"{folder} holds other things; name a folder that is not there.")
        return
    with Store.open(folder) as store:
        if store.setting(ORIGIN_KEY) is None and (store.setting(RECIPE_KEY) or store.documents()):
            raise ConfigError(f"{folder} is a corpus of its own; name a folder that is not there.")
