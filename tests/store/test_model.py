"""Random adding, updating and removing, against a dictionary."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chunkwise.rag.retrieval.dense import DenseRetriever
from chunkwise.store import Changes, Store
from chunkwise.types import Query, content_id
from tests.store.corpora import EMBEDDER, prepared, put

NAMES = st.sampled_from("abcd")
LINES = st.lists(st.sampled_from(["alpha", "beta", "gamma 水", "delta", "beta "]), max_size=5)


class StoreMachine(RuleBasedStateMachine):
    """`documents` is what the store must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store.open(Path(self.folder.name), create=True)
        self.documents: dict[str, list[str]] = {}

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @rule(batch=st.dictionaries(NAMES, LINES, min_size=1, max_size=3))
    def replace(self, batch: dict[str, list[str]]) -> None:
        changes = put(self.store, *(prepared(name, lines) for name, lines in batch.items()))
        old = [len(self.documents.get(name, [])) for name in batch]
        new = [len(lines) for lines in batch.values()]
        assert changes.kept + changes.new == sum(new)
        assert changes.kept + changes.removed == sum(old)
        self.documents.update(batch)

    @rule(names=st.sets(NAMES, min_size=1))
    def remove(self, names: set[str]) -> None:
        gone = sum(len(self.documents.pop(name, [])) for name in names)
        assert self.store.remove(names) == Changes(removed=gone)

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(Path(self.folder.name))

    @precondition(lambda self: self.documents)
    @rule(seed=st.integers(0, 10))
    def search(self, seed: int) -> None:
        lines = sorted({line for lines in self.documents.values() for line in lines})
        if not lines:
            return
        line = random.Random(seed).choice(lines)
        hit = DenseRetriever(self.store, EMBEDDER).search(Query(line), 1)[0]
        places = {hit.document, *(name for name, _ in hit.copies)}
        if line != "beta ":  # its vector is that of "beta"
            assert hit.chunk.text.strip() == line.strip()
        assert places <= {n for n, held in self.documents.items() if hit.chunk.text in held}

    @invariant()
    def store_is_the_dictionary(self) -> None:
        assert [info.name for info in self.store.documents()] == sorted(self.documents)
        for name, lines in self.documents.items():
            assert [chunk.text for chunk in self.store.chunks(name)] == lines
        contents = {content_id(line) for lines in self.documents.values() for line in lines}
        stats = self.store.stats()
        assert (stats.contents, stats.vectors) == (len(contents), len(contents))
        assert self.store.check() == []


TestStore = StoreMachine.TestCase
TestStore.settings = settings(deadline=None, max_examples=20, stateful_step_count=12)
