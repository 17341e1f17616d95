"""Commands that measure how a corpus is cut: eval chunking."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from chunkwise.cli.app import (
    DEFAULT_CORPUS,
    CorpusOption,
    JsonOption,
    SetOption,
    err,
    open_with,
    out,
    print_json,
)
from chunkwise.cli.measuring import (
    BaselineOption,
    RowsOption,
    counted,
    eval_app,
    intervals,
    keep_apart,
    show_measures,
    writing,
)
from chunkwise.cli.questions import RetrieverOption
from chunkwise.errors import ConfigError, RequestError
from chunkwise.evaluation.bootstrap import Interval
from chunkwise.evaluation.chunking import (
    BUDGETS,
    case_row,
    compare_chunking,
    evaluate_chunking,
    read_cases,
    read_earlier,
    summarise_chunking,
)
from chunkwise.evaluation.cohesion import cohesion
from chunkwise.pipeline.corpus import Corpus
from chunkwise.registry import spec_name

_CHUNKING_MEASURES = {
    "recall": "recall",
    "precision": "precision",
    "precision_omega": "precision-omega",
    "iou": "IoU",
    "best_iou": "IoU*",
    "lost_by_chunking": "lost by chunking",
    "lost_by_retrieval": "lost by retrieval",
}


@eval_app.command()
def chunking(
    questions: Annotated[Path, typer.Argument(metavar="QUESTIONS", help="JSON lines.")],
    corpus: CorpusOption = DEFAULT_CORPUS,
    retriever: RetrieverOption = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Chunks that are retrieved.")] = 5,
    budgets: Annotated[
        list[int] | None,
        typer.Option("--budget", min=1, help="Tokens at which recall is shown. Repeatable."),
    ] = None,
    compat: Annotated[
        str, typer.Option(help="exact, or chroma: the published arithmetic, for comparison.")
    ] = "exact",
    with_cohesion: Annotated[
        bool,
        typer.Option("--cohesion", help="ChunkScore, boundary clarity and stickiness too; slow."),
    ] = False,
    rows: RowsOption = None,
    baseline: BaselineOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how much of the characters that answer questions the chunks of a corpus bring back.

    A line is {"question": ..., "references": [{"document": ..., "start": ..., "end": ...}]}, or
    "text" in place of the offsets.

    To compare two ways to cut, add the documents to two corpora, and run this on the second with
    --baseline and the --rows of the first. Recall at a budget of tokens is what can be compared
    between chunks of different sizes.
    """
    if compat not in ("exact", "chroma"):
        raise ConfigError(f"--compat must be exact or chroma, got {compat!r}.")
    keep_apart(questions, rows)
    with open_with(corpus, sets, retriever=retriever) as opened:
        about = _about_chunking(opened)
        asked = read_cases(questions, opened.document)
        cases = [one.case for one in asked]
        earlier = None if baseline is None else read_earlier(baseline, asked)
        found: list[dict[str, float]] = []
        scored = evaluate_chunking(opened, cases, k=k, budgets=budgets or BUDGETS)
        with writing(rows) as write:
            for scores in counted(scored, len(cases), "asking", hidden=as_json):
                write(case_row(asked[len(found)], scores))
                found.append(scores)
        if with_cohesion:
            about |= _cohesion(opened)
    about |= {"questions": len(cases), "k": k}
    measures = summarise_chunking(found, cases)
    differences = None if earlier is None else compare_chunking(found, earlier, cases)
    if as_json:
        against = {"file": str(baseline), **intervals(differences)} if differences else None
        print_json({**about, **intervals(measures), "baseline": against})
        return
    names = _chunking_names(measures, compat)
    less = differences and {names[key]: differences[key] for key in names if key in differences}
    show_measures({title: measures[key] for key, title in names.items()}, less)
    out().print(", ".join(f"{key}: {value}" for key, value in about.items()), style="dim")


def _about_chunking(corpus: Corpus) -> dict[str, Any]:
    """What is measured; a corpus that is not there is said first."""
    corpus.stats()
    sizes = [c.tokens for info in corpus.documents() for c in corpus.store.chunks(info.name)]
    return {
        "chunker": spec_name(corpus.settings.chunker),
        "retriever": spec_name(corpus.settings.retriever),
        "chunks": len(sizes),
        "mean_tokens": round(sum(sizes) / max(len(sizes), 1), 1),
    }


def _cohesion(corpus: Corpus) -> dict[str, float]:
    """Means over all runs of chunks, by the local language model or the packaged one."""
    found: list[dict[str, float]] = []
    for info in corpus.documents():
        texts = [chunk.text for chunk in corpus.store.chunks(info.name)]
        try:
            found += cohesion(corpus.parts.foreseer, corpus.parts.embedder, [texts])
        except RequestError as exc:
            err().print(f"[red]left out:[/red] {escape(info.name)}: {escape(str(exc))}")
    names = found[0] if found else {}
    return {name: round(sum(row[name] for row in found) / len(found), 4) for name in names}


def _chunking_names(measures: Mapping[str, Interval], compat: str) -> dict[str, str]:
    """Measures that are shown, with their titles."""
    before = "chroma_" if compat == "chroma" else ""
    names = {f"{before}{key}": title for key, title in _CHUNKING_MEASURES.items()}
    budgets = {key: key.replace("recall_at_", "recall at ") for key in measures if "_at_" in key}
    return {key: title for key, title in names.items() if key in measures} | budgets
