"""Commands that measure how a corpus is cut: eval chunking, eval questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
    table_of,
    writing,
)
from chunkwise.cli.questions import BaseUrlOption, ModelOption, RetrieverOption
from chunkwise.errors import ConfigError, RequestError
from chunkwise.evaluation.bootstrap import Interval
from chunkwise.evaluation.chunking import (
    BUDGETS,
    case_row,
    compare_chunking,
    evaluate_chunking,
    evaluate_headings,
    read_cases,
    read_chunks,
    read_earlier,
    summarise_chunking,
)
from chunkwise.evaluation.cohesion import cohesion
from chunkwise.evaluation.generated import FILTERS, Generated, generate, writer_of
from chunkwise.evaluation.question_windows import Writer
from chunkwise.pipeline.corpus import Corpus
from chunkwise.registry import spec_name
from chunkwise.types import Chunk

_CHUNKING_MEASURES = {
    "recall": "recall",
    "precision": "precision",
    "precision_omega": "precision-omega",
    "iou": "IoU",
    "best_iou": "IoU*",
    "lost_by_chunking": "lost by chunking",
    "lost_by_retrieval": "lost by retrieval",
}
_HEADING_MEASURES = {"pk_headings": "Pk, headings", "windowdiff_headings": "WindowDiff, headings"}


@eval_app.command()
def chunking(
    questions: Annotated[
        Path | None,
        typer.Argument(metavar="[QUESTIONS]", help="JSON lines; without, questions are made."),
    ] = None,
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
    "text" in place of the offsets. Without a file, questions are made as `eval questions` makes
    them; that command keeps them in a file.

    To compare two ways to cut, make a recipe of the second (`chunkwise recipe add`), and run this
    on its folder with the same file, --baseline and the --rows of the first. Recall at a
    budget of tokens is what can be compared between chunks of different sizes. Pk and WindowDiff
    hold the borders of chunks against the headings of documents with two or more.
    """
    if compat not in ("exact", "chroma"):
        raise ConfigError(f"--compat must be exact or chroma, got {compat!r}.")
    if questions is not None:
        keep_apart(questions, rows)
    with open_with(corpus, sets, retriever=retriever) as opened:
        opened.stats()  # a corpus that is not there is said first
        chunks = read_chunks(opened)
        about = _about_chunking(opened, chunks)
        if questions is not None:
            asked = read_cases(questions, opened.document)
        else:
            asked = _made(opened, about).cases()
        cases = [one.case for one in asked]
        earlier = None if baseline is None else read_earlier(baseline, asked)
        found: list[dict[str, float]] = []
        scored = evaluate_chunking(opened, cases, chunks=chunks, k=k, budgets=budgets or BUDGETS)
        with writing(rows) as write:
            for scores in counted(scored, len(cases), "asking", hidden=as_json):
                write(case_row(asked[len(found)], scores))
                found.append(scores)
        headings, about["documents_with_headings"] = evaluate_headings(opened, chunks)
        if with_cohesion:
            about |= _cohesion(opened, chunks)
    about |= {"questions": len(cases), "k": k}
    measures = summarise_chunking(found, cases) | headings
    differences = None if earlier is None else compare_chunking(found, earlier, cases)
    if as_json:
        against = {"file": str(baseline), **intervals(differences)} if differences else None
        print_json({**about, **intervals(measures), "baseline": against})
        return
    names = _chunking_names(measures, compat)
    less = differences and {names[key]: differences[key] for key in names if key in differences}
    show_measures({title: measures[key] for key, title in names.items()}, less)
    out().print(", ".join(f"{key}: {value}" for key, value in about.items()), style="dim")


@eval_app.command("questions")
def make_questions(
    file: Annotated[Path, typer.Option("--out", "-o", help="Where the questions are written.")],
    corpus: CorpusOption = DEFAULT_CORPUS,
    count: Annotated[int, typer.Option(min=1, help="Most questions.")] = 100,
    seed: Annotated[int, typer.Option(help="Same seed, same questions.")] = 0,
    retriever: RetrieverOption = None,
    model: ModelOption = None,
    base_url: BaseUrlOption = None,
    unconstrained: Annotated[
        bool, typer.Option("--unconstrained", help="For servers that know no JSON schema.")
    ] = False,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make questions that the documents answer, with the characters that answer them.

    By rules, in English; with a language model (--model) in any language. Dropped are questions
    that are far from what answers them, that are like another, that the corpus's own search does
    not bring back, and those that another sentence answers as well.

    `eval chunking`, `eval qa` and `eval rag` read the file.
    """
    flags = {"retriever": retriever, "model": model, "base_url": base_url}
    about: dict[str, Any] = {"file": str(file)}
    with open_with(corpus, sets, **flags) as opened, writing(file) as write:
        opened.stats()
        writer = writer_of(opened, constrained=not unconstrained)
        made = _made(opened, about, count=count, seed=seed, writer=writer, hidden=as_json)
        for row in made.rows():
            write(row)
    if as_json:
        print_json({**about, "kinds": Counter(draft.kind for draft in made.drafts)})
        return
    table = table_of(["questions", "how many"])
    table.add_row("made", str(made.made))
    for name, number in made.dropped.items():
        table.add_row(f"dropped: {FILTERS[name]}", str(number))
    table.add_row("kept", str(len(made.drafts)))
    out().print(table)
    out().print(f"by {escape(made.by)}, in {escape(str(file))}", style="dim")


def _made(
    corpus: Corpus,
    about: dict[str, Any],
    *,
    count: int = 100,
    seed: int = 0,
    writer: Writer | None = None,
    hidden: bool = False,
) -> Generated:
    """Questions made from the corpus; `about` says how many, and what was left out is shown."""
    made = generate(corpus, count=count, seed=seed, writer=writer)
    for note in () if hidden else made.notes:
        err().print(f"[yellow]note:[/yellow] {escape(note)}")
    about["made_by"] = made.by
    about["made"], about["kept"] = made.made, len(made.drafts)
    about["dropped"] = dict(made.dropped)
    if made.notes:
        about["notes"] = list(made.notes)
    return made


def _about_chunking(corpus: Corpus, chunks: Mapping[str, Sequence[Chunk]]) -> dict[str, Any]:
    """What is measured."""
    sizes = [chunk.tokens for some in chunks.values() for chunk in some]
    return {
        "chunker": spec_name(corpus.settings.chunker),
        "retriever": spec_name(corpus.settings.retriever),
        "chunks": len(sizes),
        "mean_tokens": round(sum(sizes) / max(len(sizes), 1), 1),
    }


def _cohesion(corpus: Corpus, chunks: Mapping[str, Sequence[Chunk]]) -> dict[str, float]:
    """Means over all runs of chunks, by the local language model or the packaged one."""
    found: list[dict[str, float]] = []
    for name, some in chunks.items():
        texts = [chunk.text for chunk in some]
        try:
            found += cohesion(corpus.parts.foreseer, corpus.parts.embedder, [texts])
        except RequestError as exc:
            err().print(f"[red]left out:[/red] {escape(name)}: {escape(str(exc))}")
    names = found[0] if found else {}
    return {name: round(sum(row[name] for row in found) / len(found), 4) for name in names}


def _chunking_names(measures: Mapping[str, Interval], compat: str) -> dict[str, str]:
    """Measures that are shown, with their titles."""
    before = "chroma_" if compat == "chroma" else ""
    names = {f"{before}{key}": title for key, title in _CHUNKING_MEASURES.items()}
    budgets = {key: key.replace("recall_at_", "recall at ") for key in measures if "_at_" in key}
    shown = names | budgets | _HEADING_MEASURES
    return {key: title for key, title in shown.items() if key in measures}
