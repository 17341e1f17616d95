"""Commands over what a local model has kept of chunks: cache stats, warm, pin, unpin, test, verify,
clear."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from chunkwise.cli.app import (
    DEFAULT_CORPUS,
    CorpusOption,
    JsonOption,
    PathOption,
    SetOption,
    app,
    err,
    open_with,
    out,
    print_json,
)
from chunkwise.cli.progress import progress_bar
from chunkwise.cli.questions import ModelOption

cache_app = typer.Typer(
    no_args_is_help=True, help="What a local model keeps of chunks that it has read."
)
app.add_typer(cache_app, name="cache")


@cache_app.command()
def stats(
    corpus: CorpusOption = DEFAULT_CORPUS, sets: SetOption = None, as_json: JsonOption = False
) -> None:
    """Show how many chunks are kept, by model, and how large they are."""
    from chunkwise.llm.kv import disk

    folder = _folder(corpus, sets)
    found, pins = disk.stats(folder), len(disk.pinned(folder))
    if as_json:
        models = [each._asdict() for each in found]
        print_json({"folder": str(folder), "models": models, "pinned": pins})
        return
    for each in found:
        size = f"{each.nbytes / 2**20:,.1f} MiB"
        out().print(f"{escape(each.made_for)}: {each.chunks} chunks, {size}", soft_wrap=True)
    if not found:
        out().print("No chunks are kept.", style="dim")
    if pins:
        out().print(f"{pins} chunks are pinned.")


@cache_app.command()
def warm(
    corpus: CorpusOption = DEFAULT_CORPUS,
    model: ModelOption = None,
    path: PathOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the local model read all chunks now; it goes on where it was stopped."""
    with (
        open_with(corpus, sets, model=model) as opened,
        progress_bar("reading", hidden=as_json) as progress,
    ):
        found = opened.warm(paths=path or (), progress=progress)
    if as_json:
        print_json(found._asdict())
        return
    out().print(f"Read {found.computed} chunks.")
    if found.left:
        err().print(
            f"[yellow]{found.left} do not fit: raise `chunk_disk_mb` or `chunk_memory_mb`.[/yellow]"
        )


@cache_app.command("unpin", help="Undo `pin`.")
@cache_app.command("pin")
def pin(
    context: typer.Context,
    documents: Annotated[
        list[str], typer.Argument(help="Names or patterns of documents.", metavar="DOCUMENT...")
    ],
    corpus: CorpusOption = DEFAULT_CORPUS,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let what is kept of documents stay, whatever the room and its age."""
    stay = context.command.name == "pin"
    with open_with(corpus, sets) as opened:
        count = opened.pin(documents, stay=stay)
    if as_json:
        print_json({"chunks": count})
    else:
        out().print(f"{'Pinned' if stay else 'Unpinned'} {count} chunks.")


@cache_app.command("test")
def self_test(
    corpus: CorpusOption = DEFAULT_CORPUS,
    model: ModelOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far answers over what is kept are from those of reading all anew."""
    with open_with(corpus, sets, model=model) as opened:
        opened.stats()  # there must be a corpus
        reusing = opened.fidelity()
    found = reusing.test()._asdict()
    if as_json:
        print_json({"policy": reusing.policy, **found})
        return
    for name, value in found.items():
        out().print(f"{name:<16} {value:.4g}")
    policy = "none: prompts are computed in full" if reusing.policy is None else reusing.policy
    out().print(f"{'policy':<16} {escape(str(policy))}", soft_wrap=True)


@cache_app.command()
def verify(
    corpus: CorpusOption = DEFAULT_CORPUS, sets: SetOption = None, as_json: JsonOption = False
) -> None:
    """Read all that is kept; what is damaged is removed, and computed again when it is needed."""
    from chunkwise.llm.kv import disk

    whole, problems = disk.verify(_folder(corpus, sets))
    if as_json:
        print_json({"whole": whole, "removed": problems})
    else:
        for problem in problems:
            err().print(f"[yellow]removed:[/yellow] {escape(problem)}", soft_wrap=True)
        out().print(f"{whole} chunks are whole.")
    if problems:
        raise typer.Exit(1)


@cache_app.command()
def clear(
    corpus: CorpusOption = DEFAULT_CORPUS, sets: SetOption = None, as_json: JsonOption = False
) -> None:
    """Remove all that is kept, of all models, pinned or not."""
    from chunkwise.llm.kv import disk

    count = disk.drop_others(_folder(corpus, sets), ())
    if as_json:
        print_json({"removed": count})
    else:
        out().print(f"Removed {count} chunks.")


def _folder(corpus: Path, sets: list[str] | None) -> Path:
    with open_with(corpus, sets) as opened:
        opened.stats()  # there must be a corpus
        folder = opened.parts.chunk_folder
    assert folder is not None, "a corpus has a folder"
    return folder
