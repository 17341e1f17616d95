"""The command that judges answers and their passages: eval rag."""

from __future__ import annotations

import json
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
from chunkwise.cli.questions import AnswererOption, BaseUrlOption, ModelOption, RetrieverOption
from chunkwise.errors import ConfigError
from chunkwise.evaluation.judging import Judge
from chunkwise.evaluation.questions import Question, read_questions
from chunkwise.evaluation.rag_measures import (
    MEASURES,
    both_defined,
    compare_rag,
    summarise_rag,
)
from chunkwise.evaluation.rag_runs import (
    RagRow,
    clusters,
    evaluate_rag,
    judge_of,
    rag_asker,
    rag_row,
    read_earlier_rag,
)
from chunkwise.evaluation.verdicts import RememberingJudge
from chunkwise.pipeline.corpus import Corpus
from chunkwise.registry import Spec, spec_name

_TITLES = {name: name.replace("_", " ") for name in MEASURES}


@eval_app.command()
def rag(
    questions: Annotated[Path, typer.Argument(metavar="QUESTIONS", help="JSON lines.")],
    corpus: CorpusOption = DEFAULT_CORPUS,
    judge: Annotated[
        str, typer.Option(help="Who judges: offline, model, or JSON with options.")
    ] = "offline",
    answerer: AnswererOption = None,
    retriever: RetrieverOption = None,
    model: ModelOption = None,
    base_url: BaseUrlOption = None,
    verdicts: Annotated[
        Path | None, typer.Option(help="Remember verdicts here, and take those that are there.")
    ] = None,
    rows: RowsOption = None,
    baseline: BaselineOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge answers by their claims, and passages by what they hold of the gold answers.

    A line is {"question": ..., "answers": [...]}, as for `eval qa`; the first answer counts, and
    an empty list means that there is none. `eval questions` makes such lines.

    The judge "offline" compares words; "model" asks the language model that is set. Noise share is
    better when lower, all others when higher.
    """
    flags = {"answerer": answerer, "retriever": retriever, "model": model, "base_url": base_url}
    keep_apart(questions, rows)
    _keep_verdicts_apart(verdicts, questions, rows, baseline)
    asked = read_questions(questions)
    with open_with(corpus, sets, **flags) as opened:
        about = {
            "judge": spec_name(spec := _spec(judge)),
            "answerer": spec_name(opened.settings.answerer),
            "weak_embedder": opened.parts.embedder.is_weak,
            "questions": len(asked),
        }
        one = judge_of(spec, opened)
        earlier = None
        if baseline is not None:
            earlier = read_earlier_rag(baseline, asked, one.fingerprint)
        remembering = RememberingJudge(one, verdicts)
        found = _judged(opened, asked, remembering, rows, hidden=as_json)
    failed = [row for row in found if row.error]
    scores = [row.scores for row in found]
    measures = summarise_rag(scores, clusters(asked))
    differences = None if earlier is None else compare_rag(scores, earlier, clusters(asked))
    compared = {} if earlier is None else both_defined(scores, earlier)
    if as_json:
        against: dict[str, Any] | None = None
        if differences is not None:
            against = {"file": str(baseline), "compared": compared, **intervals(differences)}
        errors = [{"id": row.question.id, "reason": row.error} for row in failed]
        print_json({**about, "failed": errors, **intervals(measures), "baseline": against})
    else:
        for row in failed:
            err().print(f"[red]failed:[/red] {escape(row.question.id)}: {escape(row.error)}")
        less = differences and {title: differences[key] for key, title in _TITLES.items()}
        show_measures({title: measures[key] for key, title in _TITLES.items()}, less)
        if compared:
            counts = ", ".join(f"{_TITLES[key]} {count}" for key, count in compared.items())
            out().print(f"questions where both runs have it: {counts}", style="dim")
        out().print(", ".join(f"{key}: {value}" for key, value in about.items()), style="dim")
    if failed:
        raise typer.Exit(1)


def _keep_verdicts_apart(
    verdicts: Path | None, questions: Path, rows: Path | None, baseline: Path | None
) -> None:
    keep_apart(questions, verdicts, "--verdicts")
    if baseline is not None:
        keep_apart(baseline, verdicts, "--verdicts")
    if verdicts is not None and rows is not None and verdicts.resolve() == rows.resolve():
        raise ConfigError(f"--verdicts and --rows both name {str(rows)!r}; name two files.")


def _spec(judge: str) -> Spec:
    if not judge.lstrip().startswith("{"):
        return judge
    try:
        found: dict[str, Any] = json.loads(judge)
    except ValueError as exc:
        raise ConfigError(f"--judge: {judge!r} is not JSON: {exc}") from exc
    return found


def _judged(
    corpus: Corpus,
    questions: list[Question],
    judge: Judge,
    rows: Path | None,
    *,
    hidden: bool,
) -> list[RagRow]:
    """A row for each question; a corpus that is needed and not there is said before the first."""
    if any(question.contexts is None for question in questions):
        corpus.stats()
    judged = evaluate_rag(questions, rag_asker(corpus), judge, corpus.parts.embedder)
    found = []
    with writing(rows) as write:
        for row in counted(judged, len(questions), "judging", hidden=hidden):
            write(rag_row(row, judge.fingerprint))
            found.append(row)
    return found
