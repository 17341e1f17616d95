"""Commands over recipes: ways to cut and embed the documents of a corpus, side by side."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from chunkwise import config
from chunkwise.cli.app import (
    DEFAULT_CORPUS,
    CorpusOption,
    JsonOption,
    SetOption,
    app,
    err,
    open_with,
    out,
    print_json,
    settings_of,
)
from chunkwise.cli.documents import report_dict, show_report
from chunkwise.cli.progress import progress_bar
from chunkwise.errors import ConfigError
from chunkwise.pipeline import recipes
from chunkwise.pipeline.reports import IngestReport
from chunkwise.registry import spec_name
from chunkwise.store import Store

recipe_app = typer.Typer(
    no_args_is_help=True,
    help="Ways to cut and embed the documents of a corpus, side by side. '.' is its own.",
)
app.add_typer(recipe_app, name="recipe")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of the recipe.")]


@recipe_app.command()
def add(
    name: NameArgument,
    corpus: CorpusOption = DEFAULT_CORPUS,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cut and embed the documents by other settings too, beside what there is.

    No file is read again, and what both recipes embed alike is not embedded again. The recipe is a
    corpus: name its folder with --corpus to ask it or to measure it.
    """
    changes = settings_of(sets)
    if not changes:
        raise ConfigError("A recipe needs what it does otherwise: give --set, e.g. -s size=300.")
    with open_with(corpus, None) as opened:
        folder = recipes.folder_of(opened, name)
        if Store.exists(folder):
            raise ConfigError(f"There is a recipe {name!r}; `chunkwise recipe rm` removes it.")
        reports: list[IngestReport] = []
        with (
            progress_bar("cutting", hidden=as_json) as progress,
            recipes.derive(
                opened, folder, progress=progress, on_report=reports.append, **changes
            ) as derived,
        ):
            diff = recipes.compare(opened, derived)
    failed = reports[0].failed
    if as_json:
        told = {"recipe": name, "folder": str(folder), **_diff_dict(diff, ".", name)}
        print_json({**told, "failed": [{"name": n, "reason": why} for n, why in failed]})
    else:
        for document, reason in failed:
            err().print(f"[red]failed:[/red] {escape(document)}: {escape(reason)}")
        _show_diff(diff, ".", name)
        out().print(f"Ask it with --corpus {escape(str(folder))}", style="dim")
    if failed:
        raise typer.Exit(1)


@recipe_app.command()
def update(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Recipes; none: all.")
    ] = None,
    corpus: CorpusOption = DEFAULT_CORPUS,
    as_json: JsonOption = False,
) -> None:
    """Bring recipes up to date with the documents of the corpus."""
    with open_with(corpus, None) as opened:
        opened.stats()
        failed = 0
        for name in names or recipes.names(opened):
            with progress_bar(name, hidden=as_json) as progress:
                report = recipes.update(opened, name, progress=progress)
            _tell(name, report, as_json)
            failed += len(report.failed)
    if failed:
        raise typer.Exit(1)


@recipe_app.command()
def ls(corpus: CorpusOption = DEFAULT_CORPUS, as_json: JsonOption = False) -> None:
    """List the recipes, the corpus's own first."""
    rows = []
    with open_with(corpus, None) as opened:
        opened.stats()
        for name in (recipes.OWN, *recipes.names(opened)):
            with recipes.open_recipe(opened, name) as one:
                side = dataclasses.asdict(recipes.side_of(one))
                settings = config.recipe_of(one.settings)
                rows.append({"name": name, "folder": str(one.folder), **settings, **side})
    if as_json:
        print_json({"recipes": rows})
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("recipe", "chunker", "size", "embedder", "chunks", "mean tokens", "MB"):
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left")
    for row in rows:
        names = (row["name"], spec_name(row["chunker"]), str(row["size"]))
        amounts = (str(row["chunks"]), str(row["mean_tokens"]), f"{row['bytes'] / 1e6:.1f}")
        table.add_row(*map(escape, (*names, spec_name(row["embedder"]), *amounts)))
    out().print(table)


@recipe_app.command()
def diff(
    first: NameArgument,
    second: Annotated[str, typer.Argument(metavar="[NAME]", help="'.': the corpus's own.")] = ".",
    corpus: CorpusOption = DEFAULT_CORPUS,
    as_json: JsonOption = False,
) -> None:
    """Show how two recipes differ: settings, chunks, and texts that only one of them has."""
    with (
        open_with(corpus, None) as opened,
        recipes.open_recipe(opened, first) as one,
        recipes.open_recipe(opened, second) as two,
    ):
        found = recipes.compare(one, two)
    if as_json:
        print_json(_diff_dict(found, first, second))
    else:
        _show_diff(found, first, second)


@recipe_app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Recipes; none: all.")
    ] = None,
    corpus: CorpusOption = DEFAULT_CORPUS,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put one question to several recipes, and show their answers one below the other."""
    from chunkwise.cli.questions import answer_dict, show_answer

    answers: dict[str, Any] = {}
    with open_with(corpus, None) as opened:
        opened.stats()
        for name in names or (recipes.OWN, *recipes.names(opened)):
            with recipes.open_recipe(opened, name, **settings_of(sets)) as one:
                if as_json:
                    answers[name] = answer_dict(one.ask(question))
                else:
                    out().print(f"[bold]{escape(name)}[/bold]")
                    show_answer(one, question)
                    out().print()
    if as_json:
        print_json({"answers": answers})


@recipe_app.command()
def use(
    name: NameArgument, corpus: CorpusOption = DEFAULT_CORPUS, as_json: JsonOption = False
) -> None:
    """Make a recipe the corpus's own; its vectors are taken over.

    Settings in the recipe's chunkwise.toml, such as the retriever, are not: they stay the corpus's.
    """
    with open_with(corpus, None) as opened, progress_bar("cutting", hidden=as_json) as progress:
        report = recipes.adopt(opened, name, progress=progress)
    _tell(name, report, as_json)
    if report.failed:
        raise typer.Exit(1)


@recipe_app.command()
def rm(
    name: NameArgument, corpus: CorpusOption = DEFAULT_CORPUS, as_json: JsonOption = False
) -> None:
    """Remove a recipe and what was made by it; the documents stay in the corpus."""
    with open_with(corpus, None) as opened:
        recipes.remove(opened, name)
    if as_json:
        print_json({"removed": name})
    else:
        out().print(f"Removed the recipe {escape(name)}.")


_NUMBERS = ("size", "chunks", "mean tokens", "MB")


def _tell(name: str, report: IngestReport, as_json: bool) -> None:
    if as_json:
        print_json({"recipe": name, **report_dict(report)})
        return
    out().print(f"[bold]{escape(name)}[/bold]")
    show_report(report, report.seconds["total"])


def _diff_dict(diff: recipes.RecipeDiff, first: str, second: str) -> dict[str, Any]:
    one, two, both = diff.texts
    return {
        "recipes": [first, second],
        "settings": {name: list(values) for name, values in diff.settings.items()},
        "stages": list(diff.stages),
        "sides": [dataclasses.asdict(side) for side in diff.sides],
        "texts": {"first": one, "second": two, "both": both},
    }


def _show_diff(diff: recipes.RecipeDiff, first: str, second: str) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("", first, second):
        table.add_column(escape(heading))
    for name, values in diff.settings.items():
        table.add_row(escape(name), *(escape(str(value)) for value in values))
    one, two = diff.sides
    table.add_row("chunks", str(one.chunks), str(two.chunks))
    table.add_row("mean tokens", str(one.mean_tokens), str(two.mean_tokens))
    table.add_row("MB on disk", f"{one.bytes / 1e6:.1f}", f"{two.bytes / 1e6:.1f}")
    table.add_row("distinct texts", str(diff.texts[0]), str(diff.texts[1]))
    out().print(table)
    stages = ", ".join(diff.stages) or "none"
    out().print(f"{diff.texts[2]} texts in both; stages that differ: {stages}", style="dim")
