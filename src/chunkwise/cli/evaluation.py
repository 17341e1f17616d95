"""Commands that measure answers, sentences and models: eval qa, segmentation, perplexity."""

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
    shown,
    table_of,
    writing,
)
from chunkwise.cli.questions import (
    AnswererOption,
    BaseUrlOption,
    ModelOption,
    RetrieverOption,
)
from chunkwise.evaluation.answers import AnswerSummary, ScoredAnswer, compare_answers, summarise
from chunkwise.evaluation.bootstrap import Interval
from chunkwise.evaluation.boundaries import BoundaryCounts
from chunkwise.evaluation.perplexity import (
    TextLoss,
    loss_row,
    read_plain_texts,
    summarise_losses,
    text_losses,
)
from chunkwise.evaluation.questions import Question, asker, read_questions
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
from chunkwise.registry import spec_name

_MEASURES = {
    "exact": "exact match",
    "f1": "F1",
    "answered": "answered",
    "auc": "AUC of abstention",
}
_BOUNDARY_MEASURES = {"f1": "boundary F1", "pk": "Pk", "windowdiff": "WindowDiff"}
_LOSS_MEASURES = {"perplexity": "perplexity", "bits_per_byte": "bits per byte"}


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
    keep_apart(questions, rows)
    with open_with(corpus, sets, threshold=threshold, **flags) as opened:
        found = _asked(opened, asked, rows, hidden=as_json)
        name = spec_name(opened.settings.answerer)
    summary = summarise(found)
    differences = None if earlier is None else compare_answers(found, earlier)
    failed = [row for row in found if row.error]
    if as_json:
        against = {"file": str(baseline), **intervals(differences)} if differences else None
        print_json({"answerer": name, **_answers_dict(summary, failed), "baseline": against})
    else:
        _show_answers(name, summary, failed, differences)
    if failed:
        raise typer.Exit(1)


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
    keep_apart(file, rows)
    if corrupt:
        texts = [corrupted(gold) for gold in texts]
    with open_with(corpus, sets, segmenter=segmenter) as opened, writing(rows) as write:
        name = spec_name(opened.settings.segmenter)
        counts: list[BoundaryCounts] = []
        scored = evaluate_segmenter(texts, opened.parts.segmenter)
        for each in counted(scored, len(texts), "segmenting", hidden=as_json):
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
    keep_apart(file, rows)
    with open_with(corpus, sets, model=model) as opened, writing(rows) as write:
        name = opened.settings.model
        losses: list[TextLoss] = []
        scored = text_losses(opened.parts.scoring_model, texts)
        for each in counted(scored, len(texts), "reading", hidden=as_json):
            write(loss_row(texts[len(losses)], each))
            losses.append(each)
    measures = summarise_losses(losses)
    tokens = sum(each.num_tokens for each in losses)
    if as_json:
        counts = {"texts": len(losses), "tokens": tokens}
        print_json({"model": name, **counts, **intervals(measures)})
        return
    table = table_of(["measure", "value, 95 % interval"])
    for key, title in _LOSS_MEASURES.items():
        table.add_row(title, shown(measures[key]))
    out().print(table)
    out().print(f"{len(losses)} texts, {tokens} tokens, by {escape(name)}", style="dim")


def _earlier(asked: list[Question], baseline: Path) -> list[ScoredAnswer]:
    return paired(asked, read_rows(baseline), name=str(baseline))


def _asked(
    corpus: Corpus, questions: list[Question], rows: Path | None, *, hidden: bool
) -> list[ScoredAnswer]:
    """A row for each question; a corpus that is needed and not there is said before the first."""
    if any(question.contexts is None for question in questions):
        corpus.stats()
    found = []
    answered = evaluate_answers(questions, asker(corpus))
    with writing(rows) as write:
        for row in counted(answered, len(questions), "asking", hidden=hidden):
            write(row_dict(row))
            found.append(row)
    return found


def _answers_dict(summary: AnswerSummary, failed: list[ScoredAnswer]) -> dict[str, Any]:
    return {
        "questions": summary.num_questions,
        "answerable": summary.num_answerable,
        "failed": [{"id": row.question.id, "reason": row.error} for row in failed],
        **intervals(summary.measures),
    }


def _boundaries_dict(summary: SegmentationSummary) -> dict[str, Any]:
    return {
        "texts": summary.num_texts,
        "ends": summary.num_ends,
        **intervals(summary.measures),
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
    show_measures({title: summary.measures[key] for key, title in _MEASURES.items()}, less)
    counts = f"{summary.num_questions} questions, {summary.num_answerable} answerable"
    out().print(f"{counts}, by {escape(name)}", style="dim")


def _show_boundaries(summaries: Mapping[str, SegmentationSummary]) -> None:
    table = table_of(["language", "texts", "ends", *_BOUNDARY_MEASURES.values()])
    for language, summary in summaries.items():
        cells = [shown(summary.measures[key]) for key in _BOUNDARY_MEASURES]
        table.add_row(escape(language), str(summary.num_texts), str(summary.num_ends), *cells)
    out().print(table)
