"""Commands that measure: eval qa, eval chunking, eval segmentation, eval perplexity."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.table import Table

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
)
from chunkwise.cli.progress import progress_bar
from chunkwise.cli.questions import (
    AnswererOption,
    BaseUrlOption,
    ModelOption,
    RetrieverOption,
)
from chunkwise.errors import ConfigError, RequestError
from chunkwise.evaluation.answers import AnswerSummary, ScoredAnswer, compare_answers, summarise
from chunkwise.evaluation.bootstrap import Interval
from chunkwise.evaluation.boundaries import BoundaryCounts
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
from chunkwise.evaluation.perplexity import (
    TextLoss,
    loss_row,
    read_plain_texts,
    summarise_losses,
    text_losses,
)
from chunkwise.evaluation.questions import Question, asker, read_questions
from chunkwise.evaluation.rows import writing_rows
from chunkwise.evaluation.runs import evaluate_answers, paired, read_rows, row_dict
from chunkwise.evaluation.segmentation import (
    SegmentationSummary,
    by_language,
    corrupted,
    counts_row,
    evaluate_segmenter,
    read_texts,
    summarise_segmentation,
)
from chunkwise.pipeline.corpus import Corpus
from chunkwise.pipeline.reports import Progress
from chunkwise.registry import spec_name

T = TypeVar("T")
_MEASURES = {
    "exact": "exact match",
    "f1": "F1",
    "answered": "answered",
    "auc": "AUC of abstention",
}
_CHUNKING_MEASURES = {
    "recall": "recall",
    "precision": "precision",
    "precision_omega": "precision-omega",
    "iou": "IoU",
    "best_iou": "IoU*",
    "lost_by_chunking": "lost by chunking",
    "lost_by_retrieval": "lost by retrieval",
}
_BOUNDARY_MEASURES = {"f1": "boundary F1", "pk": "Pk", "windowdiff": "WindowDiff"}
_LOSS_MEASURES = {"perplexity": "perplexity", "bits_per_byte": "bits per byte"}

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


@eval_app.command()
def qa(
    questions: Annotated[Path, typer.Argument(metavar="QUESTIONS", help="JSON lines.")],
    corpus: CorpusOption = DEFAULT_CORPUS,
    answerer: AnswererOption = None,
    retriever: RetrieverOption = None,
    model: ModelOption = None,
    base_url: BaseUrlOption = None,
    threshold: Annotated[
        float | None, typer.Option(help="Confidence below which nothing is found.")
    ] = None,
    rows: RowsOption = None,
    baseline: BaselineOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask questions whose answers are known, and say how good the answers are.

    A line is {"question": ..., "answers": [...]}; an empty list: there is no answer.

    With "context" (text) or "contexts" (texts) it is answered from these alone, else from the
    corpus. "id" and "document" are read too. Intervals hold 95 % of the resamples, which are of
    documents where they are named.
    """
    flags = {"answerer": answerer, "retriever": retriever, "model": model, "base_url": base_url}
    asked = read_questions(questions)
    earlier = None if baseline is None else _earlier(asked, baseline)
    _keep_apart(questions, rows)
    with open_with(corpus, sets, threshold=threshold, **flags) as opened:
        found = _asked(opened, asked, rows, hidden=as_json)
        name = spec_name(opened.settings.answerer)
    summary = summarise(found)
    differences = None if earlier is None else compare_answers(found, earlier)
    failed = [row for row in found if row.error]
    if as_json:
        against = {"file": str(baseline), **_intervals(differences)} if differences else None
        print_json({"answerer": name, **_answers_dict(summary, failed), "baseline": against})
    else:
        _show_answers(name, summary, failed, differences)
    if failed:
        raise typer.Exit(1)


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
    _keep_apart(questions, rows)
    with open_with(corpus, sets, retriever=retriever) as opened:
        about = _about_chunking(opened)
        asked = read_cases(questions, opened.document)
        cases = [one.case for one in asked]
        earlier = None if baseline is None else read_earlier(baseline, asked)
        found: list[dict[str, float]] = []
        scored = evaluate_chunking(opened, cases, k=k, budgets=budgets or BUDGETS)
        with _writing(rows) as write:
            for scores in _counted(scored, len(cases), "asking", hidden=as_json):
                write(case_row(asked[len(found)], scores))
                found.append(scores)
        if with_cohesion:
            about |= _cohesion(opened)
    about |= {"questions": len(cases), "k": k}
    measures = summarise_chunking(found, cases)
    differences = None if earlier is None else compare_chunking(found, earlier, cases)
    if as_json:
        against = {"file": str(baseline), **_intervals(differences)} if differences else None
        print_json({**about, **_intervals(measures), "baseline": against})
        return
    names = _chunking_names(measures, compat)
    less = differences and {names[key]: differences[key] for key in names if key in differences}
    _show_measures({title: measures[key] for key, title in names.items()}, less)
    out().print(", ".join(f"{key}: {value}" for key, value in about.items()), style="dim")


@eval_app.command()
def segmentation(
    file: Annotated[Path, typer.Argument(help="JSON lines, gzipped or not.")],
    segmenter: Annotated[str | None, typer.Option(help="What finds sentences.")] = None,
    corrupt: Annotated[
        bool, typer.Option("--corrupt", help="Without punctuation and case, as speech has none.")
    ] = False,
    rows: RowsOption = None,
    corpus: CorpusOption = DEFAULT_CORPUS,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find sentences in texts where they are known, and say how many ends are right.

    A line is {"text": ..., "spans": [[start, end], ...]}, with "lang" where it is known.

    The end of a text does not count. Boundary F1 is better when higher, Pk and WindowDiff when
    lower. Sums are over texts, so a long text and a large language weigh more.
    """
    texts = read_texts(file)
    _keep_apart(file, rows)
    if corrupt:
        texts = [corrupted(gold) for gold in texts]
    with open_with(corpus, sets, segmenter=segmenter) as opened, _writing(rows) as write:
        name = spec_name(opened.settings.segmenter)
        counts: list[BoundaryCounts] = []
        scored = evaluate_segmenter(texts, opened.parts.segmenter)
        for each in _counted(scored, len(texts), "segmenting", hidden=as_json):
            write(counts_row(texts[len(counts)], each))
            counts.append(each)
    languages = {
        language: summarise_segmentation(each)
        for language, each in by_language(texts, counts).items()
    }
    overall = summarise_segmentation(counts)
    if as_json:
        print_json(
            {
                "segmenter": name,
                "corrupted": corrupt,
                "languages": {key: _boundaries_dict(each) for key, each in languages.items()},
                "overall": _boundaries_dict(overall),
            }
        )
    else:
        _show_boundaries({**languages, "all": overall})


@eval_app.command()
def perplexity(
    file: Annotated[Path, typer.Argument(help="JSON lines, gzipped or not.")],
    model: ModelOption = None,
    rows: RowsOption = None,
    corpus: CorpusOption = DEFAULT_CORPUS,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how well a local language model predicts texts: perplexity, and bits per byte.

    A line is {"text": ...}. Perplexities compare models of one tokenizer, bits per byte any.

    Losses are summed over texts, so a long text weighs more. A text must fit the model's context.
    """
    texts = read_plain_texts(file)
    _keep_apart(file, rows)
    with open_with(corpus, sets, model=model) as opened, _writing(rows) as write:
        name = opened.settings.model
        losses: list[TextLoss] = []
        scored = text_losses(opened.parts.scoring_model, texts)
        for each in _counted(scored, len(texts), "reading", hidden=as_json):
            write(loss_row(texts[len(losses)], each))
            losses.append(each)
    measures = summarise_losses(losses)
    tokens = sum(each.num_tokens for each in losses)
    if as_json:
        counts = {"texts": len(losses), "tokens": tokens}
        print_json({"model": name, **counts, **_intervals(measures)})
        return
    table = _table(["measure", "value, 95 % interval"])
    for key, title in _LOSS_MEASURES.items():
        table.add_row(title, _shown(measures[key]))
    out().print(table)
    out().print(f"{len(losses)} texts, {tokens} tokens, by {escape(name)}", style="dim")


def _earlier(asked: list[Question], baseline: Path) -> list[ScoredAnswer]:
    return paired(asked, read_rows(baseline), name=str(baseline))


def _keep_apart(read: Path, rows: Path | None) -> None:
    if rows is not None and rows.exists() and rows.samefile(read):
        raise ConfigError(f"--rows {str(rows)!r} is the file that is read; name another.")


def _asked(
    corpus: Corpus, questions: list[Question], rows: Path | None, *, hidden: bool
) -> list[ScoredAnswer]:
    """A row for each question; a corpus that is needed and not there is said before the first."""
    if any(question.contexts is None for question in questions):
        corpus.stats()
    found = []
    answered = evaluate_answers(questions, asker(corpus))
    with _writing(rows) as write:
        for row in _counted(answered, len(questions), "asking", hidden=hidden):
            write(row_dict(row))
            found.append(row)
    return found


def _writing(
    rows: Path | None,
) -> contextlib.AbstractContextManager[Callable[[Mapping[str, Any]], None]]:
    """What writes a row: into the file if one is named."""
    return contextlib.nullcontext(_nowhere) if rows is None else writing_rows(rows)


def _nowhere(row: Mapping[str, Any]) -> None:
    pass


def _counted(items: Iterable[T], total: int, verb: str, *, hidden: bool) -> Iterator[T]:
    """The items as they come, and a bar that draws how many have come."""
    with progress_bar(verb, hidden=hidden) as progress:
        for done, item in enumerate(items, start=1):
            if progress is not None:
                progress(Progress(done, total, ""))
            yield item


def _answers_dict(summary: AnswerSummary, failed: list[ScoredAnswer]) -> dict[str, Any]:
    return {
        "questions": summary.num_questions,
        "answerable": summary.num_answerable,
        "failed": [{"id": row.question.id, "reason": row.error} for row in failed],
        **_intervals(summary.measures),
    }


def _boundaries_dict(summary: SegmentationSummary) -> dict[str, Any]:
    return {
        "texts": summary.num_texts,
        "ends": summary.num_ends,
        **_intervals(summary.measures),
    }


def _intervals(measures: Mapping[str, Interval]) -> dict[str, Any]:
    """Measures as JSON shows them; what is not defined is null."""
    return {
        name: {
            key: None if math.isnan(value) else value for key, value in interval._asdict().items()
        }
        for name, interval in measures.items()
    }


def _show_answers(
    name: str,
    summary: AnswerSummary,
    failed: list[ScoredAnswer],
    differences: Mapping[str, Interval] | None,
) -> None:
    for row in failed:
        err().print(f"[red]failed:[/red] {escape(row.question.id)}: {escape(row.error)}")
    less = differences and {title: differences[key] for key, title in _MEASURES.items()}
    _show_measures({title: summary.measures[key] for key, title in _MEASURES.items()}, less)
    counts = f"{summary.num_questions} questions, {summary.num_answerable} answerable"
    out().print(f"{counts}, by {escape(name)}", style="dim")


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


def _show_measures(
    measures: Mapping[str, Interval], differences: Mapping[str, Interval] | None
) -> None:
    """A table of measures, beside what they are more than a baseline's."""
    table = _table(["measure", "value, 95 % interval"])
    if differences is not None:
        table.add_column("less the baseline", justify="right")
    for title, interval in measures.items():
        cells = [title, _shown(interval)]
        if differences is not None:
            cells.append(_shown(differences[title], signed=True) if title in differences else "-")
        table.add_row(*cells)
    out().print(table)


def _show_boundaries(summaries: Mapping[str, SegmentationSummary]) -> None:
    table = _table(["language", "texts", "ends", *_BOUNDARY_MEASURES.values()])
    for language, summary in summaries.items():
        cells = [_shown(summary.measures[key]) for key in _BOUNDARY_MEASURES]
        table.add_row(escape(language), str(summary.num_texts), str(summary.num_ends), *cells)
    out().print(table)


def _table(headings: list[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    return table


def _shown(interval: Interval, *, signed: bool = False) -> str:
    """`0.512 [0.480, 0.544]`; a dash for what is not defined."""
    value, low, high = (
        "-" if math.isnan(x) else f"{x:+.3f}" if signed else f"{x:.3f}" for x in interval
    )
    return value if low == "-" else escape(f"{value} [{low}, {high}]")
