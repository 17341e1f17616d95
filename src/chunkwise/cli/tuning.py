"""The command that chooses settings: tune."""

from __future__ import annotations

import itertools
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast, get_args

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
)
from chunkwise.cli.progress import progress_bar
from chunkwise.errors import ConfigError
from chunkwise.evaluation.bootstrap import Interval
from chunkwise.evaluation.chunking import read_cases
from chunkwise.pipeline import recipes
from chunkwise.registry import nearest
from chunkwise.tuning.measures import DEFAULT_METRIC, check_metric
from chunkwise.tuning.pareto import mark, scatter
from chunkwise.tuning.space import PRESENT, Configuration, default_space, read_space
from chunkwise.tuning.tune import Change, CostName, Standing, Tuned, tune

_COSTS = get_args(CostName)


@app.command(name="tune")
def tune_command(
    questions: Annotated[Path, typer.Argument(metavar="QUESTIONS", help="JSON lines.")],
    corpus: CorpusOption = DEFAULT_CORPUS,
    space: Annotated[
        Path | None, typer.Option(help="Settings and their values, TOML or JSON.")
    ] = None,
    metric: Annotated[str, typer.Option(help="What is maximised.")] = DEFAULT_METRIC,
    budget_minutes: Annotated[float, typer.Option(min=0.01, help="How long it may take.")] = 30.0,
    cost: Annotated[
        str, typer.Option(help=f"What quality is set against: {', '.join(_COSTS)}.")
    ] = "index_bytes",
    recipe: Annotated[
        Path | None, typer.Option(help="Write the settings here, as lines of a chunkwise.toml.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the plot here, a PNG.")] = None,
    show: Annotated[int, typer.Option(min=0, help="Changed questions that are shown.")] = 5,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the corpora of the last configurations.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget what earlier runs have measured.")
    ] = False,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose settings for your own documents, and say how sure that is.

    A line of QUESTIONS is as `eval chunking` reads it.

    The corpus stays as it is; how to use what is recommended is said at the end. A run that was
    stopped goes on where it was.
    """
    check_metric(metric)
    if cost not in _COSTS:
        raise ConfigError(
            f"--cost must be one of {', '.join(_COSTS)}, got {cost!r}.{nearest(cost, _COSTS)}"
        )
    for file in (recipe, plot):
        if file is not None:
            _check_writable(file)
    if plot is not None:
        import chunkwise.tuning.plots  # noqa: F401 - says what is missing before the run
    named, started = cast("CostName", cost), time.monotonic()
    with open_with(corpus, sets) as opened:
        opened.stats()
        cases = [one.case for one in read_cases(questions, opened.document)]
        present, taken = opened.settings, recipes.names(opened)
        tried = read_space(space, present, metric) if space else default_space(present, metric)
        with progress_bar("tuning", hidden=as_json) as progress:
            found = tune(
                opened,
                cases,
                space=tried,
                metric=metric,
                budget_minutes=budget_minutes - (time.monotonic() - started) / 60,
                cost=named,
                keep=keep,
                fresh=fresh,
                progress=progress,
            )
    if recipe is not None:
        _write(recipe, recipe_text(found))
    if plot is not None:
        _draw(found, plot, named)
    if as_json:
        print_json(tuned_dict(found))
    else:
        _show(found, named, show)
        for line in _remedy(found, corpus, taken):
            out().print(line, markup=False, soft_wrap=True)


def recipe_text(found: Tuned) -> str:
    """What is recommended as lines of a `chunkwise.toml`, with the reason."""
    reason = "".join(f"# {line}\n" for line in conclusion(found))
    return reason + config.as_toml(dict(found.chosen.changes))


def conclusion(found: Tuned) -> list[str]:
    """What the run says, in sentences."""
    said = []
    leader, place = str(found.leader), found.place(found.leader)
    gain = found.standings[place].gain
    if found.outcome == "unproven" or found.leader == PRESENT:
        said.append(_unproven(found))
    if gain is not None:
        proven = "Better than" if found.chosen == found.leader else "Best so far, against"
        said.append(f"{proven} the present settings by {_signed(gain)} of {found.metric}: {leader}")
    if gain is not None and gain.low != gain.low:
        said.append(
            "No interval, so nothing is claimed: there are fewer than 10 questions or documents, "
            "or all questions change by the same."
        )
    rivals = [i for i, less in found.rivals.items() if not less.low > 0]
    names = [str(found.standings[i].configuration) for i in rivals]
    if found.outcome == "better":
        others = "; ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        said.append(f"No difference proven to: {others}")
    if not found.is_over:
        said.append(
            f"The time was up after {len(found.standings)} of {found.configurations} "
            "configurations, not all with all questions; the same command goes on."
        )
    return said


def _unproven(found: Tuned) -> str:
    if found.outcome == "clear":
        return "The present settings are better than all others."
    return "No difference proven: the present settings stay."


def tuned_dict(found: Tuned) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "metric": found.metric,
        "outcome": found.outcome,
        "leader": dict(found.leader.changes),
        "recommended": dict(found.chosen.changes),
        "flags": found.chosen.flags,
        "conclusion": conclusion(found),
        "questions": found.questions,
        "configurations": found.configurations,
        "finished": found.is_over,
        "seconds": round(found.seconds, 2),
        "standings": [_standing_dict(one) for one in found.standings],
        "rivals": {str(i): _interval(less) for i, less in found.rivals.items()},
        "changed": [
            {"question": one.question, "before": one.before, "after": one.after}
            for one in found.changes
        ],
    }


def _standing_dict(one: Standing) -> dict[str, Any]:
    return {
        "settings": dict(one.configuration.changes),
        "value": one.value,
        "gain": None if one.gain is None else _interval(one.gain),
        "questions": one.questions,
        "left": one.is_left,
        "on_front": one.is_on_front,
        **one.cost,
    }


def _interval(interval: Interval) -> dict[str, float | None]:
    """What is not defined is null."""
    return {k: v if v == v else None for k, v in interval._asdict().items()}


def _show(found: Tuned, cost: CostName, most: int) -> None:
    out().print(_table(found))
    out().print()
    out().print(f"{found.metric} (up) against {cost} (right); + is several", style="dim")
    for line in scatter(found.points(cost), shown=_bytes if cost == "index_bytes" else _number):
        out().print(line, markup=False)
    _show_changes(found, most)
    out().print()
    for line in conclusion(found):
        out().print(line, style="bold", markup=False)
    if len(found.changes) and found.questions < 50:
        err().print(
            f"{found.questions} questions tell only large differences from chance.", style="yellow"
        )


def _remedy(found: Tuned, corpus: Path, taken: Sequence[str]) -> list[str]:
    """How to get what is recommended, as a recipe whose name is not taken."""
    said = []
    names = itertools.chain(["tuned"], (f"tuned-{number}" for number in itertools.count(2)))
    name = next(name for name in names if name not in taken)
    of = "" if corpus == DEFAULT_CORPUS else f" -c {shlex.quote(str(corpus))}"
    stored = [f"--set {shlex.quote(flag)}" for flag in Configuration(found.chosen.stored).flags]
    if stored:
        said.append(
            f"To use it: chunkwise recipe add {name}{of} {' '.join(stored)}, then chunkwise recipe "
            f"use {name}{of}"
        )
    asked = {k: v for k, v in found.chosen.changes.items() if k not in found.chosen.stored}
    if asked:
        said.append("In the corpus's chunkwise.toml:")
        said += [f"  {line}" for line in config.as_toml(asked).splitlines()]
    return said


def _table(found: Tuned) -> Table:
    """Best first; `*` is on the front, what was dropped early is dim."""
    has_kv = any("kv_bytes" in one.cost for one in found.standings)
    sent = "KV sent" if has_kv else "tokens sent"
    table = Table(box=None, pad_edge=False)
    titles = (found.metric, "less the present", "asked", "chunks", "index", "ms", sent)
    for number, title in enumerate(("", "settings", *titles)):
        table.add_column(title, justify="right" if number > 1 else "left", no_wrap=number > 2)
    for place, one in enumerate(found.standings):
        kv = one.cost.get("kv_bytes")
        table.add_row(
            f"{mark(place)}{'*' if one.is_on_front else ' '}",
            escape(str(one.configuration)),
            f"{one.value:.3f}",
            "-" if one.gain is None else escape(_signed(one.gain)),
            str(one.questions),
            f"{one.cost['chunks']:.0f}",
            _bytes(one.cost["index_bytes"]),
            f"{one.cost['ms']:.1f}",
            f"{one.cost['sent_tokens']:.0f}" if kv is None else _bytes(kv),
            style="bold" if one.configuration == found.chosen else "" if one.is_left else "dim",
        )
    return table


def _show_changes(found: Tuned, most: int) -> None:
    won = [one for one in found.changes if one.after > one.before]
    lost = [one for one in found.changes if one.after < one.before]
    out().print()
    out().print(
        f"Questions that change from the present settings to the best: {len(won)} won, "
        f"{len(lost)} lost"
    )
    for title, some in (("won", won), ("lost", lost)):
        for one in some[:most]:
            out().print(f"  {title} {one.before:.2f} > {one.after:.2f}  {_line(one)}", markup=False)


def _line(change: Change) -> str:
    text = " ".join(change.question.split())
    return text if len(text) <= 100 else f"{text[:99]}…"


def _signed(interval: Interval) -> str:
    """`+0.012 [-0.010, +0.034]`; the value alone where it has no interval."""
    value, low, high = (f"{x:+.3f}" for x in interval)
    return value if interval.low != interval.low else f"{value} [{low}, {high}]"


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _number(value: float) -> str:
    return f"{value:,.4g}"


def _draw(found: Tuned, plot: Path, cost: CostName) -> None:
    from chunkwise.tuning.plots import draw_pareto

    labels: Sequence[str] = [str(one.configuration) for one in found.standings]
    draw_pareto(
        found.points(cost),
        labels,
        plot,
        quality=found.metric,
        cost=cost,
        shown=_bytes if cost == "index_bytes" else _number,
        chosen=found.place(found.chosen),
    )


def _check_writable(path: Path) -> None:
    """Refuse a file that cannot be written before the run, not after it."""
    is_there = path.exists()
    try:
        path.open("ab").close()
        if not is_there:
            path.unlink()
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be written: {exc.strerror}.") from exc


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be written: {exc.strerror}.") from exc
