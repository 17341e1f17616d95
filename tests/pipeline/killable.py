"""Runs ingests in processes of its own, for tests that kill them.

Each line on standard input is a corpus folder and a folder of files, separated by a tab. For each
a child is forked that runs the ingest; its process number is printed, and when it ends its exit
status. Forking saves the second that an interpreter takes to start.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chunkwise.rag.parsing.files import walk
from chunkwise.store import Changes, Prepared, Store
from tests.pipeline.folders import make_ingest


class LoggedStore(Store):
    """A store that writes down, outside of itself, which documents it has committed."""

    log = Path()

    def replace(self, batch: Sequence[Prepared], *args: Any, **options: Any) -> Changes:
        changes = super().replace(batch, *args, **options)
        with self.log.open("a") as file:
            file.write("".join(f"{item.document.name}\n" for item in batch))
        return changes


def ingest(corpus: Path, folder: Path) -> None:
    """One run, with many small commits."""
    LoggedStore.log = corpus.with_suffix(".log")
    LoggedStore.log.write_text("")
    with LoggedStore.open(corpus, create=True) as store:
        make_ingest(store, folder.parent, batch_chunks=12).run([folder], prune=True)


def say(number: int) -> None:
    """A number for whoever reads standard output."""
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main() -> None:
    list(walk([Path(__file__)]))  # imports the parsers, before the first fork
    for line in sys.stdin:
        corpus, folder = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            try:
                ingest(Path(corpus), Path(folder))
                os._exit(0)
            finally:
                os._exit(1)
        say(child)
        _, status = os.waitpid(child, 0)
        say(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
