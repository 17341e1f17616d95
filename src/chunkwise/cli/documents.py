"""Commands over documents: add, rm, ls, embed, doctor."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from chunkwise.cli.app import (
    DEFAULT_CORPUS,
    CorpusOption,
    JsonOption,
    MetaOption,
    PathOption,
    SetOption,
    app,
    err,
    metadata,
    open_with,
    out,
    print_json,
)
from chunkwise.cli.progress import progress_bar
from chunkwise.config import missing_for_encoder
from chunkwise.errors import CorpusLockedError, StoreError
from chunkwise.pipeline.reports import IngestReport
from chunkwise.types import Filter


@app.command()
def add(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders.")],
    corpus: CorpusOption = DEFAULT_CORPUS,
    chunker: Annotated[str | None, typer.Option(help="How to cut.")] = None,
    size: Annotated[int | None, typer.Option(help="Most tokens of a chunk.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Tokens repeated.")] = None,
    counter: Annotated[str | None, typer.Option(help="Whose tokens are counted.")] = None,
    embedder: Annotated[str | None, typer.Option(help="What makes vectors.")] = None,
    include: Annotated[list[str] | None, typer.Option(help="Only files like this glob.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="No files like this glob.")] = None,
    prune: Annotated[bool, typer.Option(help="Remove documents whose files are gone.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes that parse.")] = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add or update files and folders; what has not changed is not read again."""
    flags = {"chunker": chunker, "size": size, "overlap": overlap, "counter": counter}
    started = time.perf_counter()
    with open_with(corpus, sets, embedder=embedder, workers=workers, **flags) as opened:
        with progress_bar("adding", hidden=as_json) as progress:
            report = opened.add(
                *paths,
                include=include or (),
                exclude=exclude or (),
                prune=prune,
                progress=progress,
            )
        weak = opened.parts.embedder.is_weak and report.embedded > 0
        recipe = opened.parts.recipe()
        others = sum(dict(info.recipe) != recipe for info in opened.documents())
        beside = len(opened.recipe_folders())
    if as_json:
        print_json(report_dict(report))
    else:
        show_report(report, time.perf_counter() - started)
        if weak:
            err().print(
                "[yellow]Vectors are weak (no trained model): search goes by words. "
                f"{_advice()} run `chunkwise embed --embedder encoder`.[/yellow]"
            )
        if others:
            err().print(
                f"[yellow]{others} documents were made by another recipe; add them again to bring "
                "them up to date.[/yellow]"
            )
        if beside and report.added + report.updated + report.removed:
            err().print("[dim]`chunkwise recipe update` brings the other recipes up to date.[/dim]")
    if report.failed:
        raise typer.Exit(1)


@app.command()
def rm(
    names: Annotated[list[str], typer.Argument(help="Names, paths or glob patterns.")],
    corpus: CorpusOption = DEFAULT_CORPUS,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove documents, with all that was made from them."""
    with open_with(corpus, sets) as opened:
        before = len(opened.documents())
        changes = opened.remove(*names)
        removed = before - len(opened.documents())
    if as_json:
        print_json({"documents": removed, "chunks": changes.removed})
    else:
        out().print(f"Removed {removed} documents with {changes.removed} chunks.")


@app.command()
def ls(
    corpus: CorpusOption = DEFAULT_CORPUS,
    path: PathOption = None,
    meta: MetaOption = None,
    as_json: JsonOption = False,
) -> None:
    """List documents with version, chunk count and recipe."""
    with open_with(corpus, None) as opened:
        found = opened.documents(Filter(tuple(path or ()), metadata(meta)))
    if as_json:
        print_json({"documents": [_document_dict(info) for info in found]})
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("document", "version", "chunks", "bytes", "title"):
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left")
    for info in found:
        numbers = (str(info.version), str(info.chunks), f"{info.size_bytes:,}")
        table.add_row(escape(info.name), *numbers, escape(info.title))
    out().print(table)
    out().print(f"{len(found)} documents", style="dim")


@app.command()
def embed(
    corpus: CorpusOption = DEFAULT_CORPUS,
    embedder: Annotated[str | None, typer.Option(help="What makes vectors.")] = None,
    graph: Annotated[
        bool, typer.Option("--graph", help="Also build a graph for approximate search.")
    ] = False,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make missing vectors, after the embedder was changed or a run was stopped."""
    with (
        open_with(corpus, sets, embedder=embedder) as opened,
        progress_bar("embedding", hidden=as_json) as progress,
    ):
        count = opened.embed(graph=graph, progress=progress)
        fingerprint = opened.parts.embedder.fingerprint
    if as_json:
        print_json({"embedded": count, "embedder": fingerprint})
    else:
        out().print(f"Embedded {count} texts with {fingerprint}.")


@app.command()
def doctor(
    corpus: CorpusOption = DEFAULT_CORPUS,
    repair: Annotated[bool, typer.Option(help="Put right what can be.")] = False,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the corpus on disk, and repair it on request."""
    with open_with(corpus, sets) as opened:
        try:
            done = opened.repair() if repair else []
            problems = opened.check()
            stats = opened.stats()
        except CorpusLockedError:
            raise
        except StoreError as exc:
            raise StoreError(
                f"{exc} What cannot be opened cannot be repaired: restore the folder from a copy, "
                "or add the documents to a new one."
            ) from exc
    if as_json:
        found = [dataclasses.asdict(problem) for problem in problems]
        print_json({"problems": found, "repaired": done, "stats": dataclasses.asdict(stats)})
    else:
        for line in done:
            out().print(f"repaired: {escape(line)}")
        for problem in problems:
            out().print(f"[red]problem:[/red] {escape(str(problem))}")
        counts = ", ".join(f"{k} {v}" for k, v in dataclasses.asdict(stats).items())
        out().print(f"{len(problems)} problems. {counts}")
    if problems:
        raise typer.Exit(1)


def _advice() -> str:
    return 'Install "chunkwise\\[llm]" and' if missing_for_encoder() else "For better ones"


_NUMBERS = ("version", "chunks", "bytes")


def report_dict(report: IngestReport) -> dict[str, Any]:
    """An ingest report as JSON shows it."""
    data = dataclasses.asdict(report)
    for key in ("skipped", "failed"):
        data[key] = [{"name": name, "reason": reason} for name, reason in getattr(report, key)]
    return data


def show_report(report: IngestReport, seconds: float) -> None:
    """An ingest report for people: failures first on standard error, then one line."""
    for warning in report.warnings:
        err().print(f"[yellow]warning:[/yellow] {escape(warning)}")
    for name, reason in report.failed:
        err().print(f"[red]failed:[/red] {escape(name)}: {escape(reason)}")
    documents = [
        f"{found} {word}"
        for word, found in (
            ("added", report.added),
            ("updated", report.updated),
            ("unchanged", report.unchanged),
            ("removed", report.removed),
            ("skipped (no parser takes them)", len(report.skipped)),
            ("failed", len(report.failed)),
        )
        if found
    ]
    chunks = f"{report.chunks.kept} kept, {report.chunks.new} new, {report.chunks.removed} removed"
    out().print(
        f"Documents: {', '.join(documents) or 'none'}. Chunks: {chunks}. "
        f"Embedded: {report.embedded}. {seconds:.1f} s"
    )
    stages = ", ".join(f"{stage} {spent:.2f} s" for stage, spent in report.seconds.items())
    out().print(f"[dim]{stages}[/dim]")


def _document_dict(info: Any) -> dict[str, Any]:
    data = dataclasses.asdict(info)
    data["recipe"] = dict(info.recipe)
    return data
