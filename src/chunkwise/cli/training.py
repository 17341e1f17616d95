"""The command that trains."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from chunkwise.cli.app import JsonOption, app, err, out, print_json, split_pair
from chunkwise.errors import ConfigError
from chunkwise.registry import nearest
from chunkwise.training.base import Adapting, recipes

if TYPE_CHECKING:
    from chunkwise.training.loop import Progress

_EVERY = 50  # steps between lines where nobody looks at a terminal
_NICE = 10


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="What to train, for example reader.")],
    data: Annotated[
        Path | None, typer.Option(help="The data folder.", envvar="CHUNKWISE_DATA")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run; runs/RECIPE by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    budget_minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="Do as many steps as fit; a resumed run stops in time."),
    ] = None,
    finish: Annotated[
        bool,
        typer.Option("--finish", help="No more steps: measure the run in --out, write its model."),
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps in all.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same weights.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Of products: auto, bfloat16 or float32.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="An option of the recipe."),
    ] = None,
    adapt: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Fit a trained model to these examples instead."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="With --adapt: which; the packaged one by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model; Ctrl-C saves, `--resume` goes on, `--finish` makes do with what is there."""
    options = _options(recipe, sets)
    if adapt is not None:
        _require_unset(
            {
                "--resume": resume,
                "--finish": finish,
                "--budget-minutes": budget_minutes,
                "--steps": steps,
                "--seed": seed,
                "--dtype": dtype,
            }
        )
        _adapt(recipe, options, adapt, model, folder or Path("runs") / f"{recipe}-adapted", as_json)
        return
    if model is not None:
        raise ConfigError("`--model` is for `--adapt`; name both or neither.")
    from chunkwise.training.run import Asked, run

    place = folder or Path("runs") / recipe
    asked = Asked(recipe, place, data, options, steps, seed, dtype, resume, budget_minutes, finish)
    _be_nice()
    with _stopping() as should_stop, _shown(hidden=as_json) as on_step:
        outcome = run(asked, on_step=on_step, on_note=_note, should_stop=should_stop)
    if as_json:
        row = {"finished": outcome.is_finished, "step": outcome.step, "steps": outcome.steps}
        made = None if outcome.model is None else str(outcome.model)
        print_json({**row, "figures": dict(outcome.figures), "model": made})
    elif outcome.is_finished:
        for name, value in outcome.figures.items():
            out().print(f"{name:<36}{value}")
        out().print(f"[bold]{escape(str(outcome.model))}[/bold]")
    if not outcome.is_finished:
        err().print(
            f"Stopped after step {outcome.step} of {outcome.steps}; go on with: chunkwise train "
            f"{escape(recipe)} --out {escape(str(place))} --resume"
        )
        raise typer.Exit(130 if should_stop() else 0)


def _adapt(
    recipe: str,
    options: Mapping[str, Any],
    examples: Path,
    model: Path | None,
    out_folder: Path,
    as_json: bool,
) -> None:
    built = recipes.build({"name": recipe, **options})
    if not isinstance(built, Adapting):
        raise ConfigError(f"Models of {recipe!r} cannot be adapted; `segmenter` can.")
    done = built.adapt(examples, model, out_folder)
    if as_json:
        print_json({"model": str(out_folder), **done})
        return
    said = ", ".join(f"{key}: {value}" for key, value in done.items())
    out().print(f"[bold]{escape(str(out_folder))}[/bold]: adapted ({escape(said)})")


def _require_unset(given: Mapping[str, object]) -> None:
    """What a fit to examples has no use for, if it is given, is an error."""
    if used := [name for name, value in given.items() if value not in (None, False)]:
        verb = "is" if len(used) == 1 else "are"
        raise ConfigError(f"{', '.join(used)} {verb} not for `--adapt`: leave it out.")


def _options(recipe: str, sets: list[str] | None) -> dict[str, Any]:
    """`--set KEY=VALUE` in the types of the recipe's fields."""
    known = recipes.options(recipe)
    found: dict[str, Any] = {}
    for pair in sets or ():
        key, text = split_pair(pair, "--set")
        if key not in known:
            raise ConfigError(
                f"--set: {recipe!r} has no option {key!r}.{nearest(key, known)} "
                f"It has: {', '.join(known)}."
            )
        found[key] = _parsed(key, text, known[key].default)
    return found


def _parsed(key: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"--set: `{key}` must be true or false, got {text!r}.")
        return text.lower() == "true"
    if default is MISSING or not isinstance(default, int | float):
        return text
    try:
        return type(default)(text)
    except ValueError as exc:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise ConfigError(f"--set: `{key}` must be {kind}, got {text!r}.") from exc


@contextlib.contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM came; a second Ctrl-C ends at once, without saving."""
    came: list[int] = []

    def stop(number: int, _: object) -> None:
        came.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _note("Stopping after this step; what was done is saved. Ctrl-C again ends at once.")

    before: Mapping[int, Any] = {
        number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _shown(*, hidden: bool) -> Iterator[Callable[[Progress], None]]:
    """A callback that shows how far a run is: a bar on a terminal, else now and then a line."""
    console = err()
    if hidden or not console.is_terminal:

        def tell(progress: Progress) -> None:
            if not hidden and (progress.step % _EVERY == 0 or progress.step == progress.steps):
                console.print(f"step {progress.step}/{progress.steps}  {_line(progress)}")

        yield tell
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("", total=None)

        def update(progress: Progress) -> None:
            bar.update(
                task,
                completed=progress.step,
                total=progress.steps,
                description=_line(progress),
            )

        yield update


def _line(progress: Progress) -> str:
    minutes, seconds = divmod(round(progress.left_s), 60)
    return (
        f"loss {progress.loss:.3f}  {progress.tokens_per_s:,.0f} tokens/s  "
        f"{minutes}:{seconds:02d} left"
    )


def _note(text: str) -> None:
    err().print(escape(text), style="dim")


def _be_nice() -> None:
    """Training stands back for other programs."""
    with contextlib.suppress(OSError):
        os.nice(_NICE)
