"""The progress bar of long commands, on standard error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from chunkwise.cli.app import err
from chunkwise.pipeline.reports import Progress


@contextlib.contextmanager
def progress_bar(verb: str, *, hidden: bool) -> Iterator[Callable[[Progress], None] | None]:
    """A callback that draws how far a run is; None where nobody looks at a terminal."""
    console = err()
    if hidden or not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[name]}", style="dim"),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(verb, total=None, name="")

        def update(progress: Progress) -> None:
            bar.update(
                task, completed=progress.done, total=progress.total, name=progress.name[-40:]
            )

        yield update
