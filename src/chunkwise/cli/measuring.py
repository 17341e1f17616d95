"""What the commands that measure share: files of rows, progress, tables and JSON of intervals."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from chunkwise.cli.app import app, out
from chunkwise.cli.progress import progress_bar
from chunkwise.errors import ConfigError
from chunkwise.evaluation.bootstrap import Interval
from chunkwise.evaluation.rows import writing_rows
from chunkwise.pipeline.reports import Progress

T = TypeVar("T")

eval_app = typer.Typer(
    no_args_is_help=True, help="Measure answers and sentences against gold ones, and models."
)
app.add_typer(eval_app, name="eval")

RowsOption = Annotated[
    Path | None, typer.Option(help="Write a JSON line for each question or text here.")
]
BaselineOption = Annotated[
    Path | None, typer.Option(help="Compare with the --rows of an earlier run.")
]


def keep_apart(read: Path, written: Path | None, option: str = "--rows") -> None:
    """Refuse to write over the file that is read."""
    if written is not None and (
        written.resolve() == read.resolve() or (written.exists() and written.samefile(read))
    ):
        raise ConfigError(f"{option} {str(written)!r} is the file that is read; name another.")


def writing(
    rows: Path | None,
) -> contextlib.AbstractContextManager[Callable[[Mapping[str, Any]], None]]:
    """What writes a row: into the file if one is named."""
    return contextlib.nullcontext(_nowhere) if rows is None else writing_rows(rows)


def _nowhere(row: Mapping[str, Any]) -> None:
    pass


def counted(items: Iterable[T], total: int, verb: str, *, hidden: bool) -> Iterator[T]:
    """The items as they come, and a bar that draws how many have come."""
    with progress_bar(verb, hidden=hidden) as progress:
        for done, item in enumerate(items, start=1):
            if progress is not None:
                progress(Progress(done, total, ""))
            yield item


def intervals(measures: Mapping[str, Interval]) -> dict[str, Any]:
    """Measures as JSON shows them; what is not defined is null."""
    return {
        name: {
            key: None if math.isnan(value) else value for key, value in interval._asdict().items()
        }
        for name, interval in measures.items()
    }


def show_measures(
    measures: Mapping[str, Interval], differences: Mapping[str, Interval] | None
) -> None:
    """A table of measures, beside what they are more than a baseline's."""
    table = table_of(["measure", "value, 95 % interval"])
    if differences is not None:
        table.add_column("less the baseline", justify="right")
    for title, interval in measures.items():
        cells = [title, shown(interval)]
        if differences is not None:
            cells.append(shown(differences[title], signed=True) if title in differences else "-")
        table.add_row(*cells)
    out().print(table)


def table_of(headings: list[str]) -> Table:
    """A table without rows; all columns but the first are numbers."""
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    return table


def shown(interval: Interval, *, signed: bool = False) -> str:
    """`0.512 [0.480, 0.544]`; a dash for what is not defined."""
    value, low, high = (
        "-" if math.isnan(x) else f"{x:+.3f}" if signed else f"{x:.3f}" for x in interval
    )
    return value if low == "-" else escape(f"{value} [{low}, {high}]")
