"""Commands that look: chunk, config."""

from __future__ import annotations

from pathlib import Path
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
    open_with,
    out,
    print_json,
)
from chunkwise.errors import ConfigError
from chunkwise.rag.chunking import cut
from chunkwise.types import Chunk


@app.command()
def chunk(
    file: Annotated[Path, typer.Argument(help="The file to cut.")],
    chunker: Annotated[str | None, typer.Option(help="How to cut.")] = None,
    size: Annotated[int | None, typer.Option(help="Most tokens of a chunk.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Tokens repeated.")] = None,
    counter: Annotated[str | None, typer.Option(help="Whose tokens are counted.")] = None,
    text_out: Annotated[
        Path | None, typer.Option("--text-out", help="Write the parsed text here.")
    ] = None,
    enriched: Annotated[
        bool, typer.Option("--enriched", help="Show what is embedded before each chunk.")
    ] = False,
    corpus: CorpusOption = DEFAULT_CORPUS,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how a file is cut, without adding it. Offsets count characters of the parsed text."""
    flags = {"chunker": chunker, "size": size, "overlap": overlap, "counter": counter}
    with open_with(corpus, sets, **flags) as opened:
        document = opened.parse(file)
        spans = opened.parts.chunker.split(document)
        chunks = cut(document, spans, opened.parts.counter, size=opened.parts.chunker.size)
        said = opened.parts.forms.enrichments(document, chunks) if enriched else [{}] * len(chunks)
    if text_out is not None:
        try:
            text_out.write_text(document.text, encoding="utf-8", newline="")
        except OSError as exc:
            raise ConfigError(f"--text-out {str(text_out)!r}: {exc.strerror}.") from exc
    for number, (piece, before) in enumerate(zip(chunks, said, strict=True), 1):
        if as_json:
            shown = {"enrichment": {name: list(values) for name, values in before.items()}}
            print_json(chunk_dict(piece) | (shown if enriched else {}))
        else:
            place = f"{piece.span.start}-{piece.span.end}, {piece.tokens} tokens"
            out().print(f"[bold]{number}[/bold] [dim]{place}[/dim]")
            for name, values in before.items():
                out().print(f"[dim]{name}: {escape('; '.join(values))}[/dim]", highlight=False)
            out().print(piece.text + "\n", markup=False)


@app.command("config")
def show_config(
    corpus: CorpusOption = DEFAULT_CORPUS, sets: SetOption = None, as_json: JsonOption = False
) -> None:
    """Show the settings in force and where each comes from."""
    with open_with(corpus, sets) as opened:
        resolved = opened.resolved
    rows = [
        {
            "name": name,
            "value": getattr(resolved.settings, name),
            "source": resolved.sources[name],
            "reason": resolved.reasons.get(name, ""),
        }
        for name in config.FIELDS
    ]
    if as_json:
        print_json({"settings": rows})
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("setting", "value", "from", "why"):
        table.add_column(heading)
    for row in rows:
        cells = (row["name"], repr(row["value"]), row["source"], row["reason"])
        table.add_row(*(escape(cell) for cell in cells))
    out().print(table)


def chunk_dict(piece: Chunk) -> dict[str, Any]:
    """A chunk as JSON shows it."""
    return {
        "id": piece.id,
        "start": piece.span.start,
        "end": piece.span.end,
        "text": piece.text,
        "tokens": piece.tokens,
        "headings": list(piece.headings),
        "header": piece.header,
        "page": piece.pages[0] if piece.pages else None,
    }
